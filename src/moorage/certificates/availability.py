"""Asks the certificate authorities whether they are there, before a deploy is paid."""

from collections.abc import Sequence

import aiohttp
import structlog

from moorage.clock import Clock
from moorage.errors import ProxyFailed
from moorage.trust import trusting

log = structlog.get_logger()

EVERY_SECONDS = 300.0
AGAIN_SECONDS = 10.0
"""How soon they are asked again when none answered; each time twice as late, up to the above."""

_TIMEOUT_SECONDS = 10.0
_NEEDED = "newOrder"  # a field of each directory (RFC 8555, 7.1.1)


async def authorities_problem(directories: Sequence[str], *, root_file: str) -> str:
    """Returns why none of the authorities can be used, as sentences; "" if one answers."""
    problems = []
    for url in directories:
        problem = await _problem(url, root_file)
        if not problem:
            return ""
        problems.append(problem)
    return " ".join(problems)


async def _problem(url: str, root_file: str) -> str:
    where = f"The certificate authority at {url}"
    try:
        trust = trusting(only=root_file or None)
        timeout = aiohttp.ClientTimeout(total=_TIMEOUT_SECONDS)
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.get(url, ssl=trust) as answer,
        ):
            directory = await answer.json(content_type=None)
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
        return f"{where} cannot be asked: {str(error) or 'it does not answer'}."
    if not isinstance(directory, dict) or _NEEDED not in directory:
        return f"{where} answers, but not as an authority does (ACME, RFC 8555)."
    return ""


class Availability:
    """What the authorities answered when they were last asked."""

    def __init__(self, directories: Sequence[str], *, root_file: str, clock: Clock) -> None:
        self._directories = directories
        self._root_file = root_file
        self._clock = clock
        self._problem = ""
        self._pause_seconds = EVERY_SECONDS
        self._asked_at = float("-inf")

    async def poll(self) -> bool:
        """Asks if it is time; returns whether one is back. Logs that, and when all go away."""
        now = self._clock.monotonic_seconds()
        if now < self._asked_at + self._pause_seconds:
            return False
        before = self._problem
        self._problem = await authorities_problem(self._directories, root_file=self._root_file)
        self._asked_at = now
        if not self._problem:
            self._pause_seconds = EVERY_SECONDS
        elif before:
            self._pause_seconds = min(2 * self._pause_seconds, EVERY_SECONDS)
        else:
            self._pause_seconds = AGAIN_SECONDS
            log.warning("no certificates can be had", error=self._problem)
        is_back = bool(before) and not self._problem
        if is_back:
            log.info("certificates can be had again")
        return is_back

    async def check(self) -> None:
        """Raises ProxyFailed when none answered: a new app would have no certificate."""
        if self._problem:
            raise ProxyFailed(self._problem)
