"""Services as real processes of a test: started, stopped in good order, killed, and started again where they were."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lensmesh_local.process import Managed, Spec
from lensmesh_local.supervisor import serves

PATIENCE_S = 300.0


def service(name: str, folder: Path, **settings: str) -> Managed:
    """The service `name` on a free port, its files in `folder`; started again where it crashes, as under `up`."""
    folder.mkdir(parents=True, exist_ok=True)
    prefix, ready = f"LENSMESH_{name.upper()}_", folder / "ready.json"
    own = {"LISTEN": "127.0.0.1:0", "READY_FILE": str(ready), "LOG_FORMAT": "console", "INSTANCE": folder.name}

    def same_address(ready: Mapping[str, Any]) -> Mapping[str, str]:
        return {f"{prefix}LISTEN": ",".join(ready["addresses"])}

    return Managed(
        Spec(
            name=folder.name,
            module=f"{name}_svc",
            environment={"NO_COLOR": "1", **{prefix + key: value for key, value in (own | settings).items()}},
            ready_file=ready,
            log_file=folder / "log",
            serving=serves,
            pin=same_address,
            start_s=PATIENCE_S,
        ),
        lambda _: None,
    )
