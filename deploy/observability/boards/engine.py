"""Queues, batches and models of Encoder and Captioner."""

from deploy.observability.boards.cache import CACHE
from deploy.observability.boards.queries import PICK, mean, quantile, quantiles, rate
from deploy.observability.charts import Board, Chart, Line, Row

ENGINE = Board(
    "lensmesh-engine",
    "lensmesh: engine",
    "Queues, batches and models of Encoder and Captioner.",
    "encoder|caption",
    (
        Row(
            "Throughput",
            (
                Chart(
                    "Items",
                    "Items answered.",
                    "ops",
                    (Line(rate("lensmesh_engine_queue_seconds_count", PICK, "job, model, lane"), "{{job}} {{lane}}"),),
                ),
                Chart(
                    "Device busy",
                    "Share of the time with a batch in the model. A batch counts as it ends: peaks exceed 1.",
                    "percentunit",
                    (
                        Line(
                            rate("lensmesh_engine_forward_seconds_sum", PICK, "job, instance, model"),
                            "{{job}} {{model}} {{instance}}",
                        ),
                    ),
                ),
                Chart(
                    "Batch size",
                    "Items in one batch: the mean, and what 95 of 100 batches do not exceed.",
                    "short",
                    (
                        Line(mean("lensmesh_engine_batch_items", PICK, "job, model"), "mean {{job}} {{model}}"),
                        Line(
                            quantile(0.95, "lensmesh_engine_batch_items", PICK, "job, model", "").expr,
                            "p95 {{job}} {{model}}",
                        ),
                    ),
                ),
            ),
        ),
        Row(
            "Queue",
            (
                Chart(
                    "Items held",
                    "Admitted and not yet answered.",
                    "short",
                    (Line(f"sum by (job, model, lane) (lensmesh_engine_queue_items{{{PICK}}})", "{{job}} {{lane}}"),),
                ),
                Chart(
                    "Items that wait for the device",
                    "Decoded and ready.",
                    "short",
                    (Line(f"sum by (job, model, lane) (lensmesh_engine_waiting_items{{{PICK}}})", "{{job}} {{lane}}"),),
                ),
                Chart(
                    "How full",
                    "Of the room for items, and of that for bytes. At 1 calls are refused.",
                    "percentunit",
                    (
                        Line(
                            f"lensmesh_engine_queue_items{{{PICK}}} / on (job, instance, model) group_left ()"
                            f" lensmesh_engine_queue_limit_items{{{PICK}}}",
                            "items {{job}} {{lane}}",
                        ),
                        Line(
                            f"lensmesh_engine_queue_bytes{{{PICK}}} / on (job, instance, model) group_left ()"
                            f" lensmesh_engine_queue_limit_bytes{{{PICK}}}",
                            "bytes {{job}} {{lane}}",
                        ),
                    ),
                ),
                Chart(
                    "Predicted wait",
                    "Until an item that comes now is answered; what autoscaling looks at.",
                    "s",
                    (Line(f"lensmesh_engine_predicted_wait_seconds{{{PICK}}}", "{{job}} {{model}} {{instance}}"),),
                ),
            ),
        ),
        Row(
            "Where an item's time goes",
            (
                Chart(
                    "Decode and transform",
                    "One image or text.",
                    "s",
                    quantiles("lensmesh_engine_prepare_seconds", PICK, "job", "{{job}}"),
                ),
                Chart(
                    "Wait for the device",
                    "One item, by its lane.",
                    "s",
                    quantiles("lensmesh_engine_queue_seconds", PICK, "job, lane", "{{job}} {{lane}}"),
                ),
                Chart(
                    "Forward pass",
                    "One batch.",
                    "s",
                    quantiles("lensmesh_engine_forward_seconds", PICK, "job, model", "{{job}} {{model}}"),
                ),
            ),
        ),
        CACHE,
        Row(
            "Trouble",
            (
                Chart(
                    "Refused and late",
                    "Refused: the lane was full or the wait too long. Dropped: the deadline could not be met.",
                    "ops",
                    (
                        Line(rate("lensmesh_engine_refused_total", PICK, "job, lane"), "refused {{job}} {{lane}}"),
                        Line(rate("lensmesh_engine_late_items_total", PICK, "job, lane"), "late {{job}} {{lane}}"),
                    ),
                ),
                Chart(
                    "Failed batches and poison items",
                    "Poison is an item on which the model fails even alone.",
                    "ops",
                    (
                        Line(
                            rate("lensmesh_engine_failed_batches_total", PICK, "job, model"),
                            "batches {{job}} {{model}}",
                        ),
                        Line(
                            rate("lensmesh_engine_poison_items_total", PICK, "job, model"), "poison {{job}} {{model}}"
                        ),
                    ),
                ),
                Chart(
                    "Out of memory",
                    "Batches that did not fit into their device's memory, and how large they may be since.",
                    "short",
                    (
                        Line(
                            rate("lensmesh_engine_out_of_memory_total", PICK, "job, model"),
                            "batches a second {{job}} {{model}}",
                        ),
                        Line(
                            f"lensmesh_engine_batch_limit{{{PICK}}}", "items in a batch {{job}} {{model}} {{instance}}"
                        ),
                    ),
                ),
                Chart(
                    "Devices",
                    "Devices, or workers on the CPU, that compute. A lost one does not come back before a restart.",
                    "short",
                    (Line(f"lensmesh_engine_devices{{{PICK}}}", "{{job}} {{model}} {{instance}}"),),
                ),
                Chart(
                    "Batch in the device since",
                    "A value that only grows is a model that hangs.",
                    "s",
                    (Line(f"lensmesh_engine_batch_running_seconds{{{PICK}}}", "{{job}} {{model}} {{instance}}"),),
                ),
                Chart(
                    "Canary",
                    "Time since the model last answered its known question as it should.",
                    "s",
                    (Line(f"lensmesh_engine_canary_age_seconds{{{PICK}}}", "{{job}} {{model}} {{instance}}"),),
                ),
            ),
        ),
    ),
)
