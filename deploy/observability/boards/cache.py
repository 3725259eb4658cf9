"""The row of the engine's dashboard about the cache: what is not computed again."""

from deploy.observability.boards.queries import PICK, rate
from deploy.observability.charts import Chart, Line, Row

_REQUESTS = "lensmesh_cache_requests_total"
_ALL = rate(_REQUESTS, PICK, "job, model")
_SAVED = rate(_REQUESTS, f'{PICK},outcome=~"hit|coalesced"', "job, model")

CACHE = Row(
    "Cache",
    (
        Chart(
            "Items by outcome",
            "Hits were computed earlier, coalesced ones at that moment for somebody else.",
            "ops",
            (Line(rate(_REQUESTS, PICK, "job, outcome"), "{{outcome}} {{job}}"),),
        ),
        Chart(
            "Answered without the model",
            "Share of all items.",
            "percentunit",
            (Line(f"{_SAVED} / {_ALL}", "{{job}} {{model}}"),),
        ),
        Chart(
            "Memory",
            "Of the results that are kept. What is shared in a Redis is not counted here.",
            "bytes",
            (Line(f"lensmesh_cache_bytes{{{PICK}}}", "{{job}} {{instance}}"),),
        ),
        Chart(
            "Evictions and failures",
            "Results dropped for others; reads and writes at which the shared cache failed.",
            "ops",
            (
                Line(rate("lensmesh_cache_evictions_total", PICK, "job"), "evictions {{job}}"),
                Line(rate("lensmesh_cache_errors_total", PICK, "job, operation"), "{{operation}} failed {{job}}"),
            ),
        ),
    ),
)
