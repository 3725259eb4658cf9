"""A service's decoding processes and nothing else of it, to be killed: prints what the kind that knows torch makes of
an image, as a digest, and the ids of both kinds; then waits to be ended. Imports no torch, which would take seconds."""

import hashlib
import threading
from concurrent.futures import ThreadPoolExecutor

from lensmesh_inference.images.limits import ImageLimits
from lensmesh_inference.images.messages import DecodeRequest
from lensmesh_inference.images.processes import DecodeProcesses
from lensmesh_inference.images.transform import Transform
from tests.inference.images.encoded import encoded, noise

TRANSFORM, CONTENT = Transform(32, 32, "squash", "bicubic"), encoded(noise(size=(90, 70)))

if __name__ == "__main__":
    kinds = [DecodeProcesses(1, "torch", cpu_s=60), DecodeProcesses(1, "pillow", cpu_s=60)]
    asked = DecodeRequest(TRANSFORM, ImageLimits(), "image", scaled=True)
    with ThreadPoolExecutor(len(kinds)) as threads:
        made = list(threads.map(lambda kind: kind.decode(CONTENT, asked, memory_bytes=1 << 30)[1], kinds))
    pids = [pid for kind in kinds for pid in kind.pids]
    print(hashlib.sha256(made[0].tobytes()).hexdigest(), *pids, flush=True)  # noqa: T201 - to the test
    threading.Event().wait()
