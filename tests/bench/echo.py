"""A worker for the tests."""

import os
import sys

from bench.worker import Asked, serve


def echo(asked: Asked) -> dict[str, object]:
    """What it was started with and what it was asked."""
    sys.stdout.write("a library says hello\n")
    sys.stdout.flush()
    return {"argument": sys.argv[1], "value": asked["value"]}


def fail(asked: Asked) -> None:
    """Raises."""
    raise RuntimeError("no such thing")


def die(asked: Asked) -> None:
    """Ends at once."""
    os.write(2, b"last words\n")
    os._exit(3)


if __name__ == "__main__":
    serve({"echo": echo, "fail": fail, "die": die})
