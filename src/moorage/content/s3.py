"""A content store in a bucket of S3, or of a server that speaks as S3 does."""

import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import obstore
from obstore.exceptions import BaseError
from obstore.store import S3Store as Bucket

from moorage.content.store import Item, check_key
from moorage.errors import ContentUnavailable

if TYPE_CHECKING:
    from obstore.store import ClientConfig, RetryConfig, S3Config

_CONNECT = timedelta(seconds=5)
_REQUEST = timedelta(seconds=120)  # with its body
_RETRYING = timedelta(seconds=20)
_RETRIES = 3


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


@asynccontextmanager
async def _in_store() -> AsyncIterator[None]:
    """Turns the library's errors into ours; FileNotFoundError stays."""
    try:
        yield
    except FileNotFoundError:
        raise
    except (BaseError, OSError) as error:
        raise ContentUnavailable from error
