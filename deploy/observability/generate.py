"""Generator of what follows from code: the dashboards' JSON and the rules of the service level objectives.

python -m deploy.observability.generate
"""

from pathlib import Path

from deploy.observability.boards.engine import ENGINE
from deploy.observability.boards.ingest import INGEST
from deploy.observability.boards.overview import OVERVIEW
from deploy.observability.boards.stores import STORES
from deploy.observability.charts import to_json
from deploy.observability.slos import rules

HERE = Path(__file__).resolve().parent
BOARDS = (OVERVIEW, ENGINE, INGEST, STORES)


def files() -> dict[Path, str]:
    """Return every generated file with its content."""
    boards = {HERE / "grafana" / "dashboards" / f"{board.uid}.json": to_json(board) for board in BOARDS}
    return {**boards, HERE / "prometheus" / "rules" / "slo.yml": rules()}


def main() -> None:
    """Write the files."""
    for path, content in files().items():
        path.write_text(content)


if __name__ == "__main__":
    main()
