"""Whether an app answers HTTP: on its own socket, before any traffic is sent there."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Protocol

import aiohttp
from yarl import URL

from moorage.errors import DeployFailed, FailureCause

_FIRST_PAUSE_SECONDS = 0.005
_LONGEST_PAUSE_SECONDS = 0.5
_REQUEST_SECONDS = 10.0


class Healthy(Protocol):
    """Returns when an app is well, else raises DeployFailed; as `wait_until_healthy`."""

    async def __call__(
        self,
        socket: Path,
        /,
        *,
        path: str,
        timeout_seconds: float,
        has_ended: Callable[[], Awaitable[bool]],
    ) -> None:
        """Wait until `GET path` is answered well at the socket."""
        ...


async def wait_until_healthy(
    socket: Path, *, path: str, timeout_seconds: float, has_ended: Callable[[], Awaitable[bool]]
) -> None:
    """Return when `GET path` is answered with less than 500.

    Raises DeployFailed(UNHEALTHY) when that does not happen in time, or when there is no answer
    and the app `has_ended`; it says what came instead.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout_seconds
    pause = _FIRST_PAUSE_SECONDS
    async with aiohttp.ClientSession(
        connector=aiohttp.UnixConnector(path=str(socket), force_close=True),
        timeout=aiohttp.ClientTimeout(total=min(_REQUEST_SECONDS, timeout_seconds)),
    ) as session:
        while True:
            seen = await _ask(session, path)
            if isinstance(seen, int) and seen < 500:
                return
            late = loop.time() + pause > deadline
            if late or (isinstance(seen, str) and await has_ended()):
                raise _unhealthy(seen, path, timeout_seconds)
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)


async def _ask(session: aiohttp.ClientSession, path: str) -> int | str:
    """The status of one answer, or what went wrong, in words."""
    try:
        url = URL(f"http://app{path}", encoded=True)  # as it is
        async with session.get(url, allow_redirects=False) as response:
            return response.status
    except TimeoutError:
        return "no answer in time"
    except aiohttp.ClientError as error:
        return f"no valid HTTP answer ({type(error).__name__})"


def _unhealthy(seen: int | str, path: str, timeout_seconds: float) -> DeployFailed:
    saw = f"it answered {seen}" if isinstance(seen, int) else seen
    return DeployFailed(
        FailureCause.UNHEALTHY,
        f"The app listens but GET {path} was not answered with a status below 500 within "
        f"{timeout_seconds:.0f} s: {saw}. Make GET {path} answer, or set another healthPath, then "
        "deploy again.",
    )
