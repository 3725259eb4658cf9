"""A service's decoding and nothing else of it, to be killed: prints whether its two kinds of processes make the pixels
of a thread, and their ids; then waits to be ended."""

import threading

import torch

from lensmesh_inference.pictures.decoder import PictureDecoder
from lensmesh_inference.pictures.limits import ImageLimits
from lensmesh_inference.pictures.transform import Transform
from tests.inference.pictures.encoded import encoded, noise

if __name__ == "__main__":
    transform, content = Transform(32, 32, "squash", "bicubic"), encoded(noise(size=(90, 70)))
    decoder = PictureDecoder(ImageLimits(), processes=1)
    one = decoder.prepare(content, transform).pixels
    decoder.prepare(encoded(noise(), "TIFF"), transform)
    same = torch.equal(one, PictureDecoder(ImageLimits()).prepare(content, transform).pixels)
    print(same, *decoder.pids, flush=True)  # noqa: T201 - to the test
    threading.Event().wait()
