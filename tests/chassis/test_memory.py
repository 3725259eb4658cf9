"""Freed memory goes back to the system, measured in a process of its own."""

import os
import platform
import subprocess
import sys

import pytest

# Messages of one size are taken and freed again, but for a small thing now and then that stays above them.
SCRIPT = """
import ctypes, psutil, sys, time
from lensmesh_chassis.process.memory import give_back_large
how, size, count, patience_s = sys.argv[1], *map(int, sys.argv[2:])
if how != "as glibc does":
    kept = {} if how == "at once" else {"larger_than": 4 << 20}
    give_back_large(every_s=0.05 if how == "soon" else 3600, **kept)
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]
# One large block that comes and goes raises the bound that glibc would use by default.
large = libc.malloc(16 << 20)
libc.free(large)
held = []
for _ in range(count):
    held.append(libc.malloc(size))
    ctypes.memset(held[-1], 1, size)
    libc.malloc(40_000)
before = psutil.Process().memory_info().rss
for block in held:
    libc.free(block)
given, until = 0, time.monotonic() + patience_s
while True:
    given = max(given, (before - psutil.Process().memory_info().rss) >> 20)
    if given > 56 or time.monotonic() > until:
        break
    time.sleep(0.02)
print(given)
"""
MESSAGE, LARGE_MESSAGE = 1 << 20, 5 << 20


def given_back_mib(how: str, size: int = MESSAGE, patience_s: int = 0, **environment: str) -> int:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    command = [sys.executable, "-c", SCRIPT, how, str(size), str((64 << 20) // size), str(patience_s)]
    done = subprocess.run(command, env={**clean, **environment}, capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mallopt is glibc's")
def test_what_large_messages_took_is_given_back() -> None:
    assert given_back_mib("at once") > 56
    assert given_back_mib("as glibc does") < 8
    # Who says how by the environment is obeyed.
    assert given_back_mib("at once", MALLOC_ARENA_MAX="8") < 8


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mallopt is glibc's")
def test_memory_of_usual_messages_is_used_again_and_given_back_later() -> None:
    assert given_back_mib("used again", LARGE_MESSAGE) > 56
    assert given_back_mib("used again") < 8
    assert given_back_mib("soon", patience_s=30) > 56
