"""A media store: bytes by name, in a folder or in an object store that speaks S3, by obstore."""

import asyncio
from datetime import timedelta
from typing import Any, Final, Protocol

from router_svc.media.address import MediaAddress

# The process tries again itself, when there is time for it.
_RETRIES: Final[Any] = {"max_retries": 0, "retry_timeout": timedelta(seconds=5)}
_CONNECT: Final = timedelta(seconds=5)
_REQUEST: Final = timedelta(seconds=30)


class MediaError(Exception):
    """A media store did not do what it was asked for. The message says why, in one line."""


class OversizedMediaError(Exception):
    """What lies in a media store is larger than whoever reads it may hold."""


class MediaStore(Protocol):
    """Bytes by name. Whatever fails raises ``MediaError``; what takes too long, the caller cancels."""

    async def put(self, key: str, content: bytes, media_type: str) -> None:
        """Keep bytes under a name: all of them, or none. What lies there is replaced."""

    async def get(self, key: str, max_bytes: int) -> bytes | None:
        """Return the bytes of a name, None where there are none. Raises ``OversizedMediaError`` for more."""

    async def has(self, key: str) -> bool:
        """Tell whether there are bytes under a name."""


class ObjectMediaStore:
    """A folder, made with the first write where it is missing, or a bucket.

    A file is written beside its place and then renamed. Credentials of a bucket come from the environment, by the names
    that AWS's own programs read.
    """

    def __init__(self, address: MediaAddress) -> None:
        self._address = address
        self._opened: Any = None
        self._opening: asyncio.Task[Any] | None = None

    async def put(self, key: str, content: bytes, media_type: str) -> None:
        import obstore

        # A folder has no place for media types, and says so by an error.
        attributes: Any = None if self._address.folder is not None else {"Content-Type": media_type}
        store = await self._store()
        try:
            await obstore.put_async(store, key, content, attributes=attributes, use_multipart=False)
        except Exception as error:
            raise _failure(error) from error

    async def get(self, key: str, max_bytes: int) -> bytes | None:
        import obstore

        store = await self._store()
        try:
            found = await obstore.get_async(store, key)
            if found.meta["size"] > max_bytes:
                raise OversizedMediaError
            return bytes(await found.bytes_async()) or None
        except (FileNotFoundError, OversizedMediaError) as error:
            if isinstance(error, OversizedMediaError):
                raise
            return None
        except Exception as error:
            raise _failure(error) from error

    async def has(self, key: str) -> bool:
        import obstore

        store = await self._store()
        try:
            # Of a machine that lost its power a file may be there, and empty.
            return (await obstore.head_async(store, key))["size"] > 0
        except FileNotFoundError:
            return False
        except Exception as error:
            raise _failure(error) from error

    async def _store(self) -> Any:
        """Open the store with the first use, and again until that succeeds."""
        if self._opened is None:
            # Of a folder that hangs one thread waits, however many callers give up.
            if self._opening is None or self._opening.done():
                self._opening = asyncio.create_task(asyncio.to_thread(self._open))
            try:
                self._opened = await asyncio.shield(self._opening)
            except asyncio.CancelledError:
                raise
            except Exception as error:
                raise _failure(error) from error
        return self._opened

    def _open(self) -> Any:
        from obstore.store import LocalStore, S3Store

        if self._address.folder is not None:
            return LocalStore(self._address.folder.expanduser().absolute(), mkdir=True)
        # An endpoint without TLS is one that somebody has named so.
        client: Any = {"connect_timeout": _CONNECT, "timeout": _REQUEST, "allow_http": True}
        return S3Store.from_url(self._address.url, client_options=client, retry_config=_RETRIES)


def _failure(error: Exception) -> MediaError:
    # What follows the first line is meant for those who work on the library.
    first = str(error).strip().split("\n", 1)[0]
    return MediaError(first[:300] or type(error).__name__)
