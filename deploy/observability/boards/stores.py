"""The dashboard of the store: what Search asks of it."""

from deploy.observability.boards.queries import CALLS, PICK, quantile, quantiles, rate
from deploy.observability.charts import Board, Chart, Line, Row

STORES = Board(
    "lensmesh-stores",
    "lensmesh: stores",
    "What Search asks of its store, whichever it is.",
    "search",
    (
        Row(
            "Rate and errors",
            (
                Chart(
                    "Operations",
                    "Ended, however they ended.",
                    "ops",
                    (Line(rate("lensmesh_store_operation_seconds_count", PICK, "operation"), "{{operation}}"),),
                ),
                Chart(
                    "Errors",
                    "By reason, as callers see it.",
                    "ops",
                    (Line(rate("lensmesh_store_errors_total", PICK, "operation, reason"), "{{operation}} {{reason}}"),),
                ),
                Chart(
                    "Search serves",
                    "Health follows the store: 0 while it cannot be used.",
                    "short",
                    (Line(f"lensmesh_health_serving{{{PICK}}}", "{{instance}}"),),
                ),
            ),
        ),
        Row(
            "Latency",
            (
                Chart(
                    "Search",
                    "One search in the store.",
                    "s",
                    quantiles("lensmesh_store_operation_seconds", f'{PICK},operation="search"', "operation", ""),
                ),
                Chart(
                    "Upsert",
                    "One transaction.",
                    "s",
                    quantiles("lensmesh_store_operation_seconds", f'{PICK},operation="upsert"', "operation", ""),
                ),
                Chart(
                    "95 of 100, by operation",
                    "One operation.",
                    "s",
                    (quantile(0.95, "lensmesh_store_operation_seconds", PICK, "operation", "{{operation}}"),),
                ),
            ),
        ),
        Row(
            "Load",
            (
                Chart(
                    "Operations at a time",
                    "Mean number that ran at once: seconds of work per second. Compare it with the size of the pool.",
                    "short",
                    (Line(rate("lensmesh_store_operation_seconds_sum", PICK, "operation"), "{{operation}}"),),
                ),
                Chart(
                    "Calls of Search, by method",
                    "Ended.",
                    "reqps",
                    (Line(rate("grpc_server_handled_total", CALLS, "grpc_method"), "{{grpc_method}}"),),
                ),
            ),
        ),
        Row(
            "Jobs",
            (
                Chart(
                    "Jobs that run",
                    "On each replica, by kind.",
                    "short",
                    (Line(f"lensmesh_jobs_running{{{PICK}}}", "{{instance}} {{kind}}"),),
                ),
                Chart(
                    "Attempts",
                    "Ended. handed_back: the replica drained; lost: another one took the job.",
                    "ops",
                    (Line(rate("lensmesh_job_attempts_total", PICK, "kind, outcome"), "{{kind}} {{outcome}}"),),
                ),
            ),
        ),
    ),
)
