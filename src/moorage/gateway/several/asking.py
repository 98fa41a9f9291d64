"""Asks a public address which gateways answer there."""

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import aiohttp

from moorage.api.public import PRESENCE_HEADER
from moorage.gateway.several.presence import Presence
from moorage.routing.probe import FixedResolver

ASK_SECONDS = 3.0

_MAX_ADDRESSES = 8
_WEB_PORTS = {"http": 80, "https": 443}


class Asked(NamedTuple):
    """What was found at an address: gateways, or why there is none."""

    gateways: tuple[Presence, ...]
    problem: str = ""


def is_public(url: str) -> bool:
    """Returns whether a URL may lead to another machine."""
    host = urlsplit(url).hostname
    if not host or host == "localhost" or host.endswith(".localhost"):
        return False
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return True
    return not (address.is_loopback or address.is_unspecified)


async def ask(url: str, roots: Collection[Path] = (), *, elsewhere: bool = False) -> Asked:
    """Asks every address that the URL's host has now; `roots` are trusted beside the system's.

    With `elsewhere`, addresses of this machine are not asked.
    """
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or _WEB_PORTS.get(parts.scheme, 0)
    try:
        tls = await asyncio.to_thread(_trust, roots) if parts.scheme == "https" else None
        async with asyncio.timeout(ASK_SECONDS):
            found = await asyncio.get_running_loop().getaddrinfo(
                host, port, type=socket.SOCK_STREAM
            )
    except (OSError, TimeoutError, UnicodeError) as error:  # the last is of what is no host's name
        return Asked((), f"{host}: {str(error) or 'no answer of its name server'}")
    addresses = list(dict.fromkeys((each[0], str(each[4][0])) for each in found))
    if elsewhere:
        addresses = [each for each in addresses if not _is_own(*each)]
    return _together(
        await asyncio.gather(
            *(_ask(url, family, address, tls) for family, address in addresses[:_MAX_ADDRESSES])
        )
    )


def _is_own(family: int, address: str) -> bool:
    """Returns whether this machine has an address."""
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((address, 0))
    except OSError:  # also where the kernel has no IPv6
        return False
    return True


async def _ask(url: str, family: int, address: str, tls: ssl.SSLContext | None) -> Asked:
    connector = aiohttp.TCPConnector(
        resolver=FixedResolver(address),
        family=socket.AddressFamily(family),
        use_dns_cache=False,
        ssl=tls or True,
    )
    timeout = aiohttp.ClientTimeout(total=ASK_SECONDS)
    try:
        async with (
            aiohttp.ClientSession(connector=connector, timeout=timeout) as session,
            session.get(
                f"{url.rstrip('/')}/health",
                headers={PRESENCE_HEADER: "?"},
                allow_redirects=False,
            ) as response,
        ):
            found = Presence.parse(response.headers.get(PRESENCE_HEADER, ""))
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        return Asked((), f"{address}: {str(error) or 'no answer'}")
    return Asked((found,)) if found else Asked((), f"{address}: what answers is no gateway")


def _together(answers: Iterable[Asked]) -> Asked:
    found = list(answers)
    gateways = tuple(each for asked in found for each in asked.gateways)
    problems = "; ".join(asked.problem for asked in found if asked.problem)
    return Asked(gateways, problems)


def _trust(roots: Iterable[Path]) -> ssl.SSLContext:
    """Returns what the system and these files say is to be trusted. Blocks. Raises OSError."""
    trust = ssl.create_default_context()
    for root in roots:
        if root.exists():  # one that the proxy has not made yet is no reason not to ask
            trust.load_verify_locations(root)
    return trust
