"""Asks the certificate authority whether it is there, before a deploy is paid that needs it."""

import ssl
from pathlib import Path

import aiohttp
import structlog

from moorage.clock import Clock
from moorage.errors import ProxyFailed
from moorage.settings import Settings

log = structlog.get_logger()

EVERY_SECONDS = 300.0
AGAIN_SECONDS = 10.0
"""How soon it is asked again after it did not answer; each time twice as late, up to the above."""

LETS_ENCRYPT = "https://acme-v02.api.letsencrypt.org/directory"
"""The first authority that the proxy asks where none is set."""

_TIMEOUT_SECONDS = 10.0
_NEEDED = "newOrder"  # a field of each directory (RFC 8555, 7.1.1)


def needs_authority(settings: Settings) -> bool:
    """Returns whether each new app needs a certificate of an authority elsewhere."""
    own = settings.internal_authority or settings.wildcard_certificate
    return settings.tls and not own


async def authority_problem(settings: Settings) -> str:
    """Returns why the authority can't be used, as a sentence; "" if it answers."""
    url = settings.acme_directory or LETS_ENCRYPT
    where = f"The certificate authority at {url}"
    try:
        trust = ssl.create_default_context(cafile=settings.acme_root_file or None)
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


class Authority:
    """What the authority answered when it was last asked."""

    def __init__(self, settings: Settings, *, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._problem = ""
        self._pause_seconds = EVERY_SECONDS
        self._asked_at = float("-inf")

    async def look(self) -> bool:
        """Asks it if it is time; returns whether it is back. Logs that, and when it goes away."""
        now = self._clock.monotonic_seconds()
        if now < self._asked_at + self._pause_seconds:
            return False
        before, self._problem = self._problem, await authority_problem(self._settings)
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
        """Raises ProxyFailed when it did not answer: a new app would be unreachable."""
        if self._problem:
            raise ProxyFailed(self._problem)


def certificates_directory(settings: Settings) -> Path:
    """Returns where the proxy keeps certificates, and its own authority."""
    shared = settings.certificates_dir
    return Path(shared) if shared else Path(settings.data_dir) / "proxy/certificates"


def own_roots(settings: Settings) -> tuple[Path, ...]:
    """Returns the files of authorities to trust, beside the system's, where apps are asked."""
    if settings.internal_authority:
        return (certificates_directory(settings) / "pki/authorities/local/root.crt",)
    return (Path(settings.acme_root_file),) if settings.acme_root_file else ()
