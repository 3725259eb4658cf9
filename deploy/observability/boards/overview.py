"""Rate, errors, duration and saturation of every service."""

from deploy.observability.boards.queries import CALLS, PICK, quantile, quantiles, rate
from deploy.observability.charts import Board, Chart, Line, Row
from deploy.observability.slos import FAULTS

ALL = rate("grpc_server_handled_total", CALLS, "job")
OUR_FAULT = rate("grpc_server_handled_total", f'{CALLS},grpc_code=~"{FAULTS}"', "job")

OVERVIEW = Board(
    "lensmesh-overview",
    "lensmesh: overview",
    "Rate, errors, duration and saturation of every service.",
    ".+",
    (
        Row(
            "Is it well?",
            (
                Chart(
                    "Replicas serving",
                    "Processes whose services all say SERVING.",
                    "short",
                    (Line(f"sum by (job) (min by (job, instance) (lensmesh_health_serving{{{PICK}}}))", "{{job}}"),),
                    number=True,
                ),
                Chart(
                    "Error budget burn, last hour",
                    "1 uses up exactly the 30 days' budget; 14.4 sustained for an hour pages.",
                    "short",
                    (Line("lensmesh:slo_errors:ratio_rate1h / on (slo) lensmesh:slo_budget:ratio", "{{slo}}"),),
                    number=True,
                ),
            ),
        ),
        Row(
            "Rate",
            (
                Chart(
                    "Calls",
                    "Calls ended.",
                    "reqps",
                    (Line(rate("grpc_server_handled_total", CALLS, "job"), "{{job}}"),),
                ),
                Chart(
                    "Calls by method",
                    "Calls ended.",
                    "reqps",
                    (Line(rate("grpc_server_handled_total", CALLS, "job, grpc_method"), "{{job}} {{grpc_method}}"),),
                ),
            ),
        ),
        Row(
            "Errors",
            (
                Chart(
                    "Share of calls that failed by our fault",
                    "Codes that are not the caller's doing, of all calls.",
                    "percentunit",
                    (Line(f"({OUR_FAULT} or 0 * {ALL}) / {ALL}", "{{job}}"),),
                ),
                Chart(
                    "Calls that failed, by code",
                    "The caller's mistakes too.",
                    "reqps",
                    (
                        Line(
                            rate("grpc_server_handled_total", f'{CALLS},grpc_code!="OK"', "job, grpc_code"),
                            "{{job}} {{grpc_code}}",
                        ),
                    ),
                ),
            ),
        ),
        Row(
            "Duration",
            (
                Chart(
                    "Unary calls by service",
                    "Time from begin to end. Dots are single calls: each leads to its trace.",
                    "s",
                    quantiles("grpc_server_handling_seconds", f'{CALLS},grpc_type="unary"', "job", "{{job}}"),
                ),
                Chart(
                    "95 of 100 unary calls, by method",
                    "Time from begin to end.",
                    "s",
                    (
                        quantile(
                            0.95,
                            "grpc_server_handling_seconds",
                            f'{CALLS},grpc_type="unary"',
                            "job, grpc_method",
                            "{{job}} {{grpc_method}}",
                        ),
                    ),
                ),
            ),
        ),
        Row(
            "By HTTP",
            (
                Chart(
                    "Requests by HTTP, by status",
                    "Answers of the front door.",
                    "reqps",
                    (Line(rate("lensmesh_http_requests_total", PICK, "job, status"), "{{status}}"),),
                ),
                Chart(
                    "95 of 100 requests by HTTP, by route",
                    "Time from a request's head to the end of its answer.",
                    "s",
                    (quantile(0.95, "lensmesh_http_request_seconds", PICK, "job, route", "{{route}}"),),
                ),
                Chart(
                    "Connections by HTTP",
                    "Those that are open.",
                    "short",
                    (Line(f"sum by (job, instance) (lensmesh_http_connections{{{PICK}}})", "{{instance}}"),),
                ),
            ),
        ),
        Row(
            "Saturation",
            (
                Chart(
                    "Calls in flight",
                    "Streams among them.",
                    "short",
                    (Line(f"sum by (job) (grpc_server_in_flight{{{CALLS}}})", "{{job}}"),),
                ),
                Chart(
                    "Event loop lag",
                    "99 of 100 timers ran within this of their time. Every call waits as long.",
                    "s",
                    (quantile(0.99, "lensmesh_event_loop_lag_seconds", PICK, "job, instance", "{{job}} {{instance}}"),),
                ),
            ),
        ),
        Row(
            "Processes",
            (
                Chart(
                    "CPU",
                    "Cores used.",
                    "short",
                    (Line(rate("process_cpu_seconds_total", PICK, "job, instance"), "{{job}} {{instance}}"),),
                ),
                Chart(
                    "Memory",
                    "Resident.",
                    "bytes",
                    (Line(f"process_resident_memory_bytes{{{PICK}}}", "{{job}} {{instance}}"),),
                ),
                Chart(
                    "File descriptors",
                    "Share of those allowed.",
                    "percentunit",
                    (Line(f"process_open_fds{{{PICK}}} / process_max_fds{{{PICK}}}", "{{job}} {{instance}}"),),
                ),
                Chart(
                    "Starts within the hour",
                    "How often a process began anew.",
                    "short",
                    (Line(f"changes(process_start_time_seconds{{{PICK}}}[1h])", "{{job}} {{instance}}"),),
                ),
            ),
        ),
    ),
)
