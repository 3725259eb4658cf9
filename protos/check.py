"""Check of the contracts with buf: lint, format, and that nothing breaks a client of the last release.

    python -m protos.check

`released.binpb` is the descriptor set of the last released contracts (`make release-contracts`). It is a file and not a
Git reference, so that the check also works in a shallow clone and in an unpacked source archive.
"""

import subprocess
import sys
from pathlib import Path

from protos.generate import PROTOS, ROOT, copy_googleapis

RELEASED = PROTOS / "released.binpb"


def run(*arguments: str) -> int:
    """Run buf in the repository root and return its exit status; its findings go to the terminal."""
    buf = Path(sys.executable).parent / "buf"
    return subprocess.run([buf, *arguments], cwd=ROOT, check=False).returncode


def main() -> int:
    """Run all checks. Return the exit status, 0 if every check passes."""
    copy_googleapis()
    checks = [("lint",), ("format", "--diff", "--exit-code", "protos")]
    if RELEASED.exists():
        checks.append(("breaking", "protos", "--against", str(RELEASED.relative_to(ROOT))))
    else:
        sys.stdout.write("buf breaking: no contracts are released yet, nothing to compare with\n")
    return max(run(*check) for check in checks)


if __name__ == "__main__":
    raise SystemExit(main())
