"""A filter that keeps Pillow's remarks about strangers' files out of the log."""

from __future__ import annotations

import logging
import warnings


def quiet_pillow() -> None:
    """Drop Pillow's warnings and log lines. One file of a megabyte can cause thirty thousand of them.

    What matters about an image is in the answer to its call.
    """
    warnings.filterwarnings("ignore", module=r"PIL\.")
    logging.getLogger("PIL").setLevel(logging.CRITICAL + 1)
