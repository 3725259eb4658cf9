"""Keeps Pillow's remarks about strangers' files out of the log."""

from __future__ import annotations

import logging
import warnings


def quiet_pillow() -> None:
    """Drop what Pillow warns of and logs: a file of a megabyte can make it say thirty thousand things.

    What matters of an image is in its answer.
    """
    warnings.filterwarnings("ignore", module=r"PIL\.")
    logging.getLogger("PIL").setLevel(logging.CRITICAL + 1)
