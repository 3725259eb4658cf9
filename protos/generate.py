"""Generator of gen/ out of protos/: messages, stubs, and types for both.

    python -m protos.generate [--out DIR]

Without --out, the clients in other languages are generated as well (clients/*/generate.py), where Go and npm are
installed.
The folder is removed first, so that a removed contract leaves nothing behind. There is one way only, grpc_tools.protoc:
buf's own generation names fields differently in the descriptors, so a comparison would never be clean.
"""

import argparse
import shutil
import subprocess
import sys
from importlib import metadata
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path

from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent.parent
PROTOS = ROOT / "protos"
# Where buf.yaml looks for Google's own contracts. Build output: the sources stay in their package.
GOOGLEAPIS = ROOT / "build" / "googleapis"


def copy_googleapis() -> Path:
    """Copy google/rpc/*.proto of the installed googleapis-common-protos to where buf and protoc find them."""
    target = GOOGLEAPIS / "google" / "rpc"
    target.mkdir(parents=True, exist_ok=True)
    spec = find_spec("google.rpc")
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit("googleapis-common-protos is not installed: run `make setup`")
    installed = Path(next(iter(spec.submodule_search_locations)))
    for name in ("status.proto", "error_details.proto", "code.proto"):
        shutil.copyfile(installed / name, target / name)
    return GOOGLEAPIS


def generate(out: Path) -> None:
    """Write the generated Python of every contract below `out`. Raises SystemExit if protoc refuses one."""
    googleapis = copy_googleapis()
    shutil.rmtree(out / "lensmesh", ignore_errors=True)
    out.mkdir(parents=True, exist_ok=True)
    sources = sorted(str(path.relative_to(PROTOS)) for path in PROTOS.rglob("*.proto"))
    well_known = files("grpc_tools") / "_proto"
    scripts = Path(sys.executable).parent
    code = protoc.main(
        [
            "protoc",
            f"--plugin=protoc-gen-mypy={scripts / 'protoc-gen-mypy'}",
            f"--plugin=protoc-gen-mypy_grpc={scripts / 'protoc-gen-mypy_grpc'}",
            f"--proto_path={PROTOS}",
            f"--proto_path={googleapis}",
            f"--proto_path={well_known}",
            f"--python_out={out}",
            f"--grpc_python_out={out}",
            f"--mypy_out=quiet:{out}",
            f"--mypy_grpc_out=quiet:{out}",
            *sources,
        ]
    )
    if code:
        raise SystemExit(code)
    (out / "lensmesh" / "py.typed").touch()


def generate_clients() -> None:
    """Make what other languages' clients have of the contracts. Raises CalledProcessError if a generator fails."""
    for client, tool in (("go", "go"), ("typescript", "npm")):
        if shutil.which(tool) is None:
            sys.stdout.write(f"clients/{client} stays as it was: {tool} is not on this machine\n")
        else:
            subprocess.run([sys.executable, ROOT / "clients" / client / "generate.py"], check=True)


def main() -> None:
    """Parse the command line and generate."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="where the Python goes (default: gen/), and nothing else is made")
    chosen: Path | None = parser.parse_args().out
    out = chosen or ROOT / "gen"
    generate(out)
    count = sum(1 for _ in (out / "lensmesh").rglob("*.py"))
    sys.stdout.write(f"{count} modules in {out} (grpcio-tools {metadata.version('grpcio-tools')})\n")
    if chosen is None:
        generate_clients()


if __name__ == "__main__":
    main()
