"""A service's decoding and nothing else of it, to be killed: prints its processes' ids, then waits to be ended."""

import threading

from lensmesh_inference.pictures.decoder import PictureDecoder
from lensmesh_inference.pictures.limits import ImageLimits
from lensmesh_inference.pictures.transform import Transform
from tests.inference.pictures.encoded import encoded, noise

if __name__ == "__main__":
    decoder = PictureDecoder(ImageLimits(), processes=2)
    decoder.prepare(encoded(noise()), Transform(32, 32, "squash", "bicubic"))
    print(*decoder.pids, flush=True)  # noqa: T201 - to the test
    threading.Event().wait()
