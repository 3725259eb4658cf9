"""A program that calls a mesh in a trace of its own, and prints the trace's id: `client_main ROUTER WHAT`."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import grpc
import pytest
from opentelemetry import trace

from lensmesh.encoder.v1 import encoder_pb2, encoder_pb2_grpc
from lensmesh_chassis.channels import open_channel
from lensmesh_chassis.telemetry.spans import operation, trace_id
from lensmesh_chassis.telemetry.tracing import start_tracing, stop_tracing
from lensmesh_client import Client, LensmeshError, SyncClient


async def stream_left(target: str) -> None:
    """A stream whose caller leaves after the first answer, without a word."""
    async with open_channel(target) as channel:
        call = encoder_pb2_grpc.EncoderServiceStub(channel).EncodeStream()
        await call.write(encoder_pb2.EncodeStreamRequest(items=[encoder_pb2.EncodeStreamItem(ref="a", text="a word")]))
        response = await call.read()
        assert isinstance(response, encoder_pb2.EncodeStreamResponse)
        assert response.results[0].ref == "a"
        call.cancel()
        assert await call.code() is grpc.StatusCode.CANCELLED


async def stream_left_waiting(target: str) -> None:
    """A stream whose caller leaves while the encoder has its item; told when to, by a line on standard input."""
    async with open_channel(target) as channel:
        call = encoder_pb2_grpc.EncoderServiceStub(channel).EncodeStream()
        await call.write(encoder_pb2.EncodeStreamRequest(items=[encoder_pb2.EncodeStreamItem(ref="a", text="a word")]))
        await asyncio.to_thread(sys.stdin.readline)
        call.cancel()


async def search_in_a_hurry(target: str) -> None:
    """A search with too little time for an encoder that stands still, and enough for all that comes before it."""
    async with Client(target, timeout_s=5.0) as client:
        try:
            await client.search("a word", collection="hurry")
        except LensmeshError as error:
            sys.stderr.write(f"{type(error).__name__}\n")


async def images(target: str) -> None:
    """One batch call that may be sent again."""
    async with open_channel(target) as channel:
        request = encoder_pb2.EncodeImagesRequest()
        await encoder_pb2_grpc.EncoderServiceStub(channel).EncodeImages(request, timeout=60)


async def ingest_again(target: str) -> None:
    """The images of a folder, into the collection `whole`."""
    paths = await asyncio.to_thread(lambda: sorted(Path(sys.argv[3]).iterdir()))
    async with Client(target) as client:
        async for result in client.ingest_many(paths, collection="whole"):
            assert result.ok


async def search_blocking(target: str) -> None:
    """A search by the synchronous client, which works in a thread of its own."""

    def search() -> None:
        with SyncClient(target) as client:
            found = client.search("a word", collection="whole")
            assert found.trace_id == trace_id()
            with pytest.raises(LensmeshError) as caught:
                client.search("a word", collection="nowhere")
            assert caught.value.metadata["trace_id"] == trace_id()

    await asyncio.to_thread(search)


WHAT: dict[str, Callable[[str], Awaitable[None]]] = {
    work.__name__: work
    for work in (stream_left, stream_left_waiting, search_in_a_hurry, images, ingest_again, search_blocking)
}


async def main(target: str, what: str) -> None:
    with operation(f"lensmesh {what}"):
        sys.stdout.write(trace_id() + "\n")
        sys.stdout.flush()
        await WHAT[what](target)


if __name__ == "__main__":
    provider = start_tracing("cli", str(Path(__file__).name))
    assert isinstance(trace.get_tracer_provider(), type(provider))
    try:
        asyncio.run(main(sys.argv[1], sys.argv[2]))
    finally:
        stop_tracing(provider)
