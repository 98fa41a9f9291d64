"""Whether an app answers HTTP: on its own socket, before any traffic is sent there."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import aiohttp

from moorage.errors import DeployFailed, FailureCause

_FIRST_PAUSE_SECONDS = 0.005
_LONGEST_PAUSE_SECONDS = 0.5
_REQUEST_SECONDS = 10.0


async def wait_until_healthy(
    socket: Path, *, timeout_seconds: float, has_ended: Callable[[], Awaitable[bool]]
) -> None:
    """Return when `GET /` is answered with less than 500.

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
            seen = await _ask(session)
            if isinstance(seen, int) and seen < 500:
                return
            late = loop.time() + pause > deadline
            if late or (isinstance(seen, str) and await has_ended()):
                raise _unhealthy(seen, timeout_seconds)
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)


async def _ask(session: aiohttp.ClientSession) -> int | str:
    """The status of one answer, or what went wrong, in words."""
    try:
        async with session.get("http://app/", allow_redirects=False) as response:
            return response.status
    except TimeoutError:
        return "no answer in time"
    except aiohttp.ClientError as error:
        return f"no valid HTTP answer ({type(error).__name__})"


def _unhealthy(seen: int | str, timeout_seconds: float) -> DeployFailed:
    saw = f"it answered {seen}" if isinstance(seen, int) else seen
    return DeployFailed(
        FailureCause.UNHEALTHY,
        f"The app listens but GET / was not answered with a status below 500 within "
        f"{timeout_seconds:.0f} s: {saw}. Make GET / answer, then deploy again.",
    )
