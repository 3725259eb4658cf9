"""The door by TLS and by a Unix socket, and its part of a trace."""

import asyncio
import ssl
from pathlib import Path

import httpx2
import pytest
from opentelemetry.trace import SpanKind

from http_svc.serving import certificates
from tests.http.conftest import Door
from tests.support.certificates import Authority
from tests.support.spans_kept import Traced, id_of, of_kind, parent_of
from tests.support.waiting import until

STATUS = "/lensmesh.router.v1.RouterService/GetStatus"
JSON = {"content-type": "application/json"}
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


def context_of(authority: Authority, name: str = "") -> ssl.SSLContext:
    """Return what a client trusts, and shows."""
    made = ssl.create_default_context(cafile=authority.file)
    if name:
        pair = authority.issue(name)
        made.load_cert_chain(pair.certificate, pair.key)
    return made


async def test_tls_asks_who_calls(stopped_door: Door, tmp_path: Path) -> None:
    authority, other = Authority(tmp_path / "a", "one"), Authority(tmp_path / "b", "two")
    pair = authority.issue("door")
    door = await stopped_door.start(
        tls_certificate_file=pair.certificate, tls_key_file=pair.key, tls_client_ca_file=authority.file
    )
    url = f"https://{door.server.address}{STATUS}"
    async with httpx2.AsyncClient(verify=context_of(authority, "caller")) as client:
        assert (await client.post(url, content=b"{}", headers=JSON)).status_code == 200
    strangers = context_of(authority), context_of(other, "caller")
    strangers[1].load_verify_locations(authority.file)
    for stranger in strangers:
        async with httpx2.AsyncClient(verify=stranger) as client:
            with pytest.raises(httpx2.TransportError):
                await client.post(url, content=b"{}", headers=JSON)
    async with httpx2.AsyncClient() as client:
        with pytest.raises(httpx2.TransportError):
            await client.post(f"http://{door.server.address}{STATUS}", content=b"{}", headers=JSON)


async def test_only_named_identities_may_connect(stopped_door: Door, tmp_path: Path) -> None:
    authority = Authority(tmp_path / "a", "one")
    pair = authority.issue("door")
    door = await stopped_door.start(
        tls_certificate_file=pair.certificate,
        tls_key_file=pair.key,
        tls_client_ca_file=authority.file,
        tls_client_ids="spiffe://lensmesh/page",
    )
    async with httpx2.AsyncClient(verify=context_of(authority, "caller")) as client:
        with pytest.raises(httpx2.TransportError):
            await client.post(f"https://{door.server.address}{STATUS}", content=b"{}", headers=JSON)


async def test_a_renewed_certificate_is_shown(
    stopped_door: Door, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(certificates, "LOOK_SECONDS", 0.02)
    authority = Authority(tmp_path / "a", "one")
    pair = authority.issue("door")
    door = await stopped_door.start(tls_certificate_file=pair.certificate, tls_key_file=pair.key)

    async def shown() -> bytes:
        _, writer = await asyncio.open_connection(*door.host_and_port, ssl=context_of(authority))
        certificate: bytes = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        writer.close()
        return certificate

    before = await shown()
    authority.issue("door")

    async def renewed() -> bool:
        return await shown() != before

    await until(renewed, "the new certificate")


async def test_a_unix_socket_serves_too(stopped_door: Door, tmp_path: Path) -> None:
    path = tmp_path / "door.sock"
    await stopped_door.start(listen=f"unix:{path}")
    transport = httpx2.AsyncHTTPTransport(uds=str(path))
    async with httpx2.AsyncClient(transport=transport, base_url="http://localhost") as client:
        assert (await client.post(STATUS, content=b"{}", headers=JSON)).status_code == 200


async def test_a_request_is_a_part_of_its_clients_trace(stopped_door: Door) -> None:
    traced = Traced()
    door = await stopped_door.start(tracer_provider=traced.provider)
    headers = JSON | {"traceparent": f"00-{TRACE}-{PARENT}-01"}
    answer = await door.client.post(STATUS, content=b"{}", headers=headers)
    assert answer.headers["lensmesh-trace-id"] == TRACE
    spans = await traced.spans(2)
    server, client = of_kind(spans, SpanKind.SERVER), of_kind(spans, SpanKind.CLIENT)
    assert server.name == f"POST {STATUS}"
    assert parent_of(server) == int(PARENT, 16)
    assert parent_of(client) == id_of(server)
    assert server.attributes is not None
    assert server.attributes["http.response.status_code"] == 200
    assert door.router.metadata[-1]["traceparent"].split("-")[1] == TRACE
    # Watchers begin no trace.
    await door.client.get("/livez")
    assert len(traced.exporter.get_finished_spans()) == 2
