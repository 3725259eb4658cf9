"""Images on their way in, through the Router."""

from deploy.observability.boards.queries import CALLS, PICK, quantile, quantiles, rate
from deploy.observability.charts import Board, Chart, Line, Row

STEPS = "EncodeImages|CaptionImages|GetItems|ListItems|UpsertItems"

INGEST = Board(
    "lensmesh-ingest",
    "lensmesh: ingest",
    "Images on their way in, through the Router.",
    "router",
    (
        Row(
            "Items",
            (
                Chart(
                    "Items by outcome",
                    "Refused is the caller's fault, failed is not.",
                    "ops",
                    (Line(rate("lensmesh_ingest_items_total", PICK, "outcome"), "{{outcome}}"),),
                ),
                Chart(
                    "Time to durable",
                    "From an item's turn to its acknowledgement.",
                    "s",
                    quantiles("lensmesh_ingest_item_seconds", PICK, "job", ""),
                ),
                Chart(
                    "Stored without a caption",
                    "The captioner was away or failed on them.",
                    "ops",
                    (Line(rate("lensmesh_ingest_uncaptioned_items_total", PICK, "job"), "items"),),
                ),
            ),
        ),
        Row(
            "In flight",
            (
                Chart(
                    "Items in flight",
                    "Read and not yet answered.",
                    "short",
                    (Line(f"sum by (instance) (lensmesh_ingest_in_flight_items{{{PICK}}})", "{{instance}}"),),
                ),
                Chart(
                    "Bytes in flight",
                    "Held by all streams. At the limit the streams are read no further.",
                    "bytes",
                    (Line(f"sum by (instance) (lensmesh_ingest_in_flight_bytes{{{PICK}}})", "{{instance}}"),),
                ),
                Chart(
                    "Streams open",
                    "Open now.",
                    "short",
                    (
                        Line(
                            f'sum by (grpc_method) (grpc_server_in_flight{{{CALLS},grpc_type="bidi_stream"}})',
                            "{{grpc_method}}",
                        ),
                    ),
                ),
                Chart(
                    "Bytes received",
                    "Messages of Ingest and IngestStream.",
                    "Bps",
                    (
                        Line(
                            rate(
                                "grpc_server_msg_received_bytes_sum", f'{PICK},grpc_method=~"Ingest.*"', "grpc_method"
                            ),
                            "{{grpc_method}}",
                        ),
                    ),
                ),
            ),
        ),
        Row(
            "Steps",
            (
                Chart(
                    "95 of 100 batch calls, by step",
                    "Calls that the Router makes: look up, encode, caption, store.",
                    "s",
                    (
                        quantile(
                            0.95,
                            "grpc_client_handling_seconds",
                            f'{PICK},grpc_method=~"{STEPS}"',
                            "grpc_method",
                            "{{grpc_method}}",
                        ),
                    ),
                ),
                Chart(
                    "Batch calls, by step and code",
                    "Made by the Router.",
                    "reqps",
                    (
                        Line(
                            rate(
                                "grpc_client_handled_total", f'{PICK},grpc_method=~"{STEPS}"', "grpc_method, grpc_code"
                            ),
                            "{{grpc_method}} {{grpc_code}}",
                        ),
                    ),
                ),
            ),
        ),
    ),
)
