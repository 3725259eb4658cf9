"""OpenCV, which is an extra: imported by the first call that compares local features."""

import functools
from types import ModuleType

from lensmesh_chassis.errors import PreconditionFailed
from lensmesh_chassis.reasons import Reason


@functools.cache
def opencv() -> ModuleType:
    """Return OpenCV. It starts no threads of its own: those that verify are many enough.

    Raises PreconditionFailed with reason LOCAL_FEATURES_UNSUPPORTED where it is not installed.
    """
    try:
        import cv2
    except ImportError as error:
        raise PreconditionFailed(
            Reason.LOCAL_FEATURES_UNSUPPORTED,
            f"this router cannot compare the local features that the collection keeps ({error}): install "
            "lensmesh[match] there",
        ) from error
    cv2.setNumThreads(1)
    return cv2
