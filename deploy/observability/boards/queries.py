"""Queries that the dashboards share.

Every service's metrics carry its name as `job`: "router", "encoder", "caption", "search", "http".
"""

from deploy.observability.charts import Line

PICK = 'job=~"$job",instance=~"$instance"'
CALLS = f'{PICK},grpc_service=~"lensmesh[.].*"'


def rate(metric: str, labels: str, by: str) -> str:
    """Return the query for a counter's increase per second."""
    return f"sum by ({by}) (rate({metric}{{{labels}}}[$__rate_interval]))"


def quantiles(metric: str, labels: str, by: str, legend: str) -> tuple[Line, ...]:
    """Return queries for the median and the slow ends of a histogram, the last with the traces behind it."""
    return tuple(
        Line(
            f"histogram_quantile({share}, {rate(f'{metric}_bucket', labels, f'{by}, le')})",
            f"p{share * 100:g} {legend}",
            exemplars=share == 0.99,
        )
        for share in (0.5, 0.95, 0.99)
    )


def quantile(share: float, metric: str, labels: str, by: str, legend: str) -> Line:
    """Return the query for one quantile of a histogram, with the traces behind it."""
    expr = f"histogram_quantile({share}, {rate(f'{metric}_bucket', labels, f'{by}, le')})"
    return Line(expr, legend, exemplars=True)


def mean(metric: str, labels: str, by: str) -> str:
    """Return the query for the average of what a histogram saw."""
    return f"{rate(f'{metric}_sum', labels, by)} / {rate(f'{metric}_count', labels, by)}"
