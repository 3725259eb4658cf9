"""The entry point of the `lensmesh` command and of `python -m lensmesh_cli`."""

import importlib.util
import sys


def main() -> None:
    """Run the command, or say how to install it: `pip install lensmesh` brings the client alone."""
    if not all(importlib.util.find_spec(name) for name in ("rich", "typer")):
        sys.exit('the command line is not installed, the client alone is: pip install "lensmesh[cli]"')
    from lensmesh_cli.main import main as run

    run()


if __name__ == "__main__":
    main()
