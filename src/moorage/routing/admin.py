"""Speaks with a running proxy at its admin socket (HAProxy's Runtime API)."""

import asyncio
import os
from pathlib import Path

from moorage.errors import ProxyFailed
from moorage.routing.haproxy_config import ADMIN_SOCKET

_TIMEOUT_SECONDS = 5.0
_LIMIT_BYTES = 64 * 1024 * 1024


async def ask(run_dir: Path, *commands: str) -> str | None:
    """Returns what the proxy says to the commands; None if no proxy runs, "" for success of most.

    Raises ProxyFailed if it does not answer.
    """
    if not commands:
        return ""
    directory = await asyncio.to_thread(os.open, run_dir, os.O_PATH | os.O_DIRECTORY)
    try:
        path = f"/proc/self/fd/{directory}/{ADMIN_SOCKET}"  # of any length, see `listener`
        async with asyncio.timeout(_TIMEOUT_SECONDS):
            reader, writer = await asyncio.open_unix_connection(path, limit=_LIMIT_BYTES)
            try:
                writer.write(("; ".join(commands) + "\n").encode())
                return (await reader.read()).decode().strip()
            finally:
                writer.close()
    except (FileNotFoundError, ConnectionRefusedError):
        return None
    except (OSError, TimeoutError) as error:
        raise ProxyFailed(f"The proxy does not answer at its admin socket: {error!r}.") from error
    finally:
        os.close(directory)
