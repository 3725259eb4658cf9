"""`lensmesh smoke` finds its own trace in a real Jaeger, whatever the mesh samples."""

import json

from tests.support.meshes import lensmesh
from tests.tracing.conftest import Traced


def test_the_trace_of_a_smoke_run_is_found(traced: Traced) -> None:
    done = lensmesh("smoke", "--json", "--jaeger", traced.jaeger.address, LENSMESH_TARGET=traced.mesh.target)
    told = json.loads(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
    found = {step["step"]: step["found"] for step in told["steps"]}
    assert "of 4 services" in found["trace"]
