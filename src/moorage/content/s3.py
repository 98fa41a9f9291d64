"""A content store in a bucket of S3, or of a server that speaks as S3 does."""

import secrets
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import obstore
from obstore.exceptions import BaseError
from obstore.store import S3Store as Bucket

from moorage.content.store import Item, Reader, Writer, check_key
from moorage.errors import ContentUnavailable
from moorage.threads import in_thread

if TYPE_CHECKING:
    from obstore import ReadableFile
    from obstore.store import ClientConfig, RetryConfig, S3Config

_CONNECT = timedelta(seconds=5)
_REQUEST = timedelta(seconds=120)  # with its body
_RETRYING = timedelta(seconds=20)
_RETRIES = 3
_PART_BYTES = 32 * 1024 * 1024  # at 2.2 Mbit/s within the time of a request
_PARTS_AT_ONCE = 2

_T = TypeVar("_T")


class S3Store:
    """A `ContentStore`. What the library has sent again in vain is ContentUnavailable."""

    def __init__(
        self,
        bucket: str,
        *,
        prefix: str = "",
        endpoint: str = "",
        region: str = "",
        credentials: Mapping[str, str] | None = None,
    ) -> None:
        """`credentials` has `access_key_id` and `secret_access_key`; None is the environment's.

        So are an empty endpoint and region, else Amazon's and us-east-1.
        """
        config: S3Config = {}
        if region:
            config["region"] = region
        if endpoint:
            config["endpoint"] = endpoint
        if credentials is not None:
            config["access_key_id"] = credentials["access_key_id"]
            config["secret_access_key"] = credentials["secret_access_key"]
        client: ClientConfig = {
            "connect_timeout": _CONNECT,
            "timeout": _REQUEST,
            "allow_http": endpoint.startswith("http://"),
        }
        retry: RetryConfig = {"max_retries": _RETRIES, "retry_timeout": _RETRYING}
        self._bucket = Bucket(
            bucket, prefix=prefix or None, config=config, client_options=client, retry_config=retry
        )

    async def put(self, key: str, source: Path) -> None:
        """As `ContentStore.put`; a large file goes in parts, and counts once all are there."""
        try:
            async with _in_store():
                await obstore.put_async(self._bucket, check_key(key), source)
        except FileNotFoundError as error:  # there is no such bucket
            raise ContentUnavailable from error

    async def put_stream(self, key: str, write: Callable[[Writer], object]) -> None:
        """As `ContentStore.put_stream`; of 10,000 parts at most, 320 GiB."""
        opened = partial(
            obstore.open_writer,
            *(self._bucket, check_key(key)),
            buffer_size=_PART_BYTES,
            max_concurrency=_PARTS_AT_ONCE,
        )

        def put() -> None:
            with opened() as target:  # what is left open is not stored
                write(target)

        try:
            async with _in_store():
                await in_thread(put)
        except FileNotFoundError as error:  # there is no such bucket
            raise ContentUnavailable from error

    async def get_stream(self, key: str, read: Callable[[Reader], _T]) -> _T:
        """As `ContentStore.get_stream`."""
        check_key(key)

        def get() -> _T:
            found = obstore.open_reader(self._bucket, key, buffer_size=_PART_BYTES)
            source = _Source(found)
            try:
                return read(source)
            finally:
                if source.error is not None:
                    raise source.error

        async with _in_store():
            return await in_thread(get)

    async def get(self, key: str, target: Path) -> None:
        """As `ContentStore.get`."""
        draft = target.with_name(f".{secrets.token_hex(8)}")
        try:
            async with _in_store():
                found = await obstore.get_async(self._bucket, check_key(key))
                size = 0
                with draft.open("xb") as writing:
                    async for piece in found.stream():
                        size += writing.write(piece)
                if size != found.meta["size"]:
                    raise ContentUnavailable
            draft.replace(target)
        finally:
            draft.unlink(missing_ok=True)

    async def exists(self, key: str) -> bool:
        """As `ContentStore.exists`."""
        try:
            async with _in_store():
                await obstore.head_async(self._bucket, check_key(key))
        except FileNotFoundError:
            return False
        return True

    async def items(self, prefix: str) -> list[Item]:
        """As `ContentStore.items`."""
        async with _in_store():
            found = [
                Item(item["path"], item["size"], round(item["last_modified"].timestamp() * 1000))
                async for page in obstore.list(self._bucket, f"{check_key(prefix)}/")
                for item in page
            ]
        return sorted(found)

    async def delete(self, key: str) -> None:
        """As `ContentStore.delete`."""
        try:
            async with _in_store():
                await obstore.delete_async(self._bucket, check_key(key))
        except FileNotFoundError:
            return


class _Source:
    """Reads an object, and remembers why it could not: a library in between may not say so."""

    def __init__(self, found: "ReadableFile") -> None:
        self._found = found
        self.error: BaseError | OSError | None = None

    def read(self, size: int, /) -> bytes:
        try:
            return self._found.read(size).to_bytes()
        except (BaseError, OSError) as error:
            self.error = error
            raise


@asynccontextmanager
async def _in_store() -> AsyncIterator[None]:
    """Turns the library's errors into ours; FileNotFoundError stays."""
    try:
        yield
    except FileNotFoundError:
        raise
    except (BaseError, OSError) as error:
        raise ContentUnavailable from error
