"""Tries the content store, in which gateways on several machines share files."""

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from moorage.content.opening import open_content
from moorage.content.store import ContentStore
from moorage.errors import ConfigurationInvalid, ContentUnavailable
from moorage.operate.check.finding import Finding
from moorage.settings import Settings

_NAME = "content store"
_PREFIX = "checks"
_SECONDS = 20.0  # that each step may take; the store's client tries again meanwhile


class _Failed(Exception):
    """What could not be done, and why."""


async def check_content(settings: Settings) -> list[Finding]:
    """Writes a small file, reads, lists and deletes it; nothing where there is no store."""
    try:
        store = open_content(settings.content_url, settings.content_credentials_file)
        if store is None:
            return []
        await _try(store)
    except ConfigurationInvalid as error:
        remedy = "set content_url and content_credentials_file right"
        return [Finding(_NAME, ok=False, detail=error.message, remedy=remedy)]
    except _Failed as failed:
        remedy = _remedy(settings.content_url)
        return [Finding(_NAME, ok=False, detail=str(failed), remedy=remedy, blocks=False)]
    return [Finding(_NAME, ok=True, detail="a file was written, read, listed and deleted")]


async def _try(store: ContentStore) -> None:
    """Raises _Failed."""
    key = f"{_PREFIX}/{secrets.token_hex(8)}"
    with TemporaryDirectory() as directory:
        written, read = Path(directory) / "written", Path(directory) / "read"
        written.write_bytes(key.encode())
        steps: Sequence[tuple[str, Callable[[], Awaitable[object]]]] = (
            ("write a file", partial(store.put, key, written)),
            ("read what was written", partial(store.get, key, read)),
            ("list files", partial(store.items, _PREFIX)),
            ("delete a file", partial(store.delete, key)),
        )
        for work, step in steps:
            try:
                await asyncio.wait_for(step(), _SECONDS)
            except TimeoutError:
                raise _Failed(f"could not {work}: no answer within {_SECONDS:.0f} s") from None
            except (ContentUnavailable, FileNotFoundError) as error:
                raise _Failed(f"could not {work}: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    """Returns what the store's client said, in one line."""
    return str(error.__cause__ or error).strip().splitlines()[0][:300]


def _remedy(url: str) -> str:
    if url.startswith("file:"):
        return f"make the directory of {url} on what all gateways have mounted, writable for them"
    return (
        f"set content_url right, and region and endpoint_url in content_credentials_file, and let "
        f"the keys put, get, list and delete what is below {url}"
    )
