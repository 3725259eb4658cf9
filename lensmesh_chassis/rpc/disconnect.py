"""Detection of a disconnected client. gRPC ends its requests as it ends those of a client that has sent everything."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import grpc

from lensmesh_chassis.rpc.handlers import rebuilt, streaming, unary

# The news that a call was cancelled comes after the end of its requests: within 2 ms where nothing else is to be done.
_NEWS_SECONDS = 0.02


class DisconnectDetector(grpc.aio.ServerInterceptor):
    """Interceptor by which a stream whose requests have just ended learns of its cancellation before it counts as done.

    A handler that has nothing left to answer ends within microseconds. Without this, traces, metrics and logs would say
    OK of a call whose client left. To be inside of all interceptors that look at how a call ended.
    """

    async def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
        handler = await continuation(handler_call_details)
        if handler is None or not handler.request_streaming:
            return handler
        if handler.response_streaming:
            run_streaming = streaming(handler)

            async def respond(requests: Any, context: Any) -> AsyncIterator[Any]:
                heard = _Heard(requests)
                responses: Any = run_streaming(heard.requests(), context)
                async with aclosing(responses):
                    async for response in responses:
                        yield response
                await heard.news()

            return rebuilt(handler, respond)
        run = unary(handler)

        async def answer(requests: Any, context: Any) -> Any:
            heard = _Heard(requests)
            response = await run(heard.requests(), context)
            await heard.news()
            return response

        return rebuilt(handler, answer)


class _Heard:
    """The requests of one call, and when they ended."""

    def __init__(self, requests: Any) -> None:
        self._requests = requests
        self._ended: float | None = None

    async def requests(self) -> AsyncIterator[Any]:
        async for request in self._requests:
            yield request
        self._ended = time.monotonic()

    async def news(self) -> None:
        """Wait for a cancellation that may still be on its way. Raises CancelledError where it comes."""
        if self._ended is not None and (left := self._ended + _NEWS_SECONDS - time.monotonic()) > 0:
            await asyncio.sleep(left)
