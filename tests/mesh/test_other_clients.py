"""Clients of another make, with nothing but the address: `buf curl` reads the contracts by reflection."""

import asyncio
import base64
import json
import sys
from pathlib import Path
from typing import Any

from tests.mesh import images

BUF = Path(sys.executable).parent / "buf"
SERVICES = [
    "lensmesh.caption.v1.CaptionerService",
    "lensmesh.encoder.v1.EncoderService",
    "lensmesh.router.v1.RouterService",
    "lensmesh.search.v1.SearchService",
]


async def buf_curl(*arguments: str) -> str:
    """What `buf curl` prints, without a schema of its own."""
    command = [str(BUF), "curl", "--protocol", "grpc", "--http2-prior-knowledge", *arguments]
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, error = await process.communicate()
    assert process.returncode == 0, error.decode()
    return out.decode()


async def call(address: str, method: str, message: dict[str, Any]) -> Any:
    """One unary call, JSON in and out."""
    return json.loads(await buf_curl("--data", json.dumps(message), f"http://{address}/{method}"))


async def test_services_are_listed_by_reflection(mesh: dict[str, str]) -> None:
    at_router = (await buf_curl(f"http://{mesh['router']}", "--list-services")).split()
    assert set(SERVICES) | {"grpc.health.v1.Health"} <= set(at_router)
    for name, service in (("encoder", SERVICES[1]), ("caption", SERVICES[0]), ("search", SERVICES[3])):
        assert service in (await buf_curl(f"http://{mesh[name]}", "--list-services")).split()


async def test_every_service_answers(mesh: dict[str, str]) -> None:
    image = {"content": base64.b64encode(images.plain()).decode()}
    for name in ("router", "encoder"):
        texts = {"texts": ["a red circle"], "options": {"readable": True}}
        encoded = await call(mesh[name], "lensmesh.encoder.v1.EncoderService/EncodeTexts", texts)
        vector = encoded["results"][0]["embedding"]["floats"]
        assert len(vector) == 512
        assert abs(sum(number * number for number in vector) - 1) < 1e-4
    for name in ("router", "caption"):
        told = await call(mesh[name], "lensmesh.caption.v1.CaptionerService/CaptionImages", {"images": [image]})
        assert "caption" in str(told)
    ingested = await call(
        mesh["router"],
        "lensmesh.router.v1.RouterService/Ingest",
        {"options": {"collection": "by-hand"}, "item": {"id": "one", "image": image, "metadata": {"shelf": 3}}},
    )
    assert "UPSERT_OUTCOME_CREATED" in str(ingested)
    found = await call(
        mesh["router"],
        "lensmesh.router.v1.RouterService/Search",
        {"collection": "by-hand", "queries": [{"image": image}]},
    )
    assert "'id': 'one'" in str(found)
    for name in ("router", "search"):
        listed = await call(mesh[name], "lensmesh.search.v1.SearchService/ListItems", {"collection": "by-hand"})
        assert "'shelf': 3" in str(listed)
    status = await call(mesh["router"], "lensmesh.router.v1.RouterService/GetStatus", {})
    assert str(status).count("HEALTH_SERVING") == 3
