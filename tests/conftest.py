"""What all tests share: a temporary folder of their own, and Ctrl-C that reaches what they start."""

import os
import shutil
import signal
import tempfile

import pytest


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Gives each run a folder that no other run touches.

    pytest's default lies below one folder per user, which every run closes to other users as it starts. PostgreSQL
    under root runs as another user, and would lose its files in the middle of a test that began earlier.
    """
    if config.option.basetemp is None:
        folder = tempfile.mkdtemp(prefix="lensmesh-tests-")
        config.option.basetemp = folder
        config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))
    # What models are compiled into is found by the next test of the run, and nothing is left in the user's own cache.
    cache = tempfile.mkdtemp(prefix="lensmesh-tests-cache-")
    os.environ["XDG_CACHE_HOME"] = cache
    config.add_cleanup(lambda: shutil.rmtree(cache, ignore_errors=True))
    # A shell that runs the tests in the background has SIGINT ignored, and what they start would inherit that.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
