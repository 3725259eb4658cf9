"""Freed memory goes back to the system, measured in a process of its own."""

import os
import platform
import subprocess
import sys

import pytest

# Messages of every size are taken and freed again, but for a small thing now and then that stays above them.
SCRIPT = """
import ctypes, psutil, sys
from lensmesh_chassis.process.memory import give_back_large
if sys.argv[1] == "give back":
    give_back_large()
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]
# One large block that comes and goes raises the bound that glibc would use by default.
large = libc.malloc(16 << 20)
libc.free(large)
held = []
for _ in range(64):
    held.append(libc.malloc(1 << 20))
    ctypes.memset(held[-1], 1, 1 << 20)
    libc.malloc(40_000)
before = psutil.Process().memory_info().rss
for block in held:
    libc.free(block)
print((before - psutil.Process().memory_info().rss) >> 20)
"""


def given_back_mib(how: str, **environment: str) -> int:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    command = [sys.executable, "-c", SCRIPT, how]
    done = subprocess.run(command, env={**clean, **environment}, capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mallopt is glibc's")
def test_what_large_messages_took_is_given_back() -> None:
    assert given_back_mib("give back") > 56
    assert given_back_mib("as glibc does") < 8
    # Who says how by the environment is obeyed.
    assert given_back_mib("give back", MALLOC_ARENA_MAX="8") < 8
