"""Checks that the gateway's names lead somewhere: its own, and any below the apps' domains."""

import asyncio
import secrets
import socket
from urllib.parse import urlsplit

from moorage.operate.check.finding import Finding
from moorage.settings import Settings

_TIMEOUT_SECONDS = 5.0
_LOCAL = ("localhost", "localhost.localdomain")


async def check_names(settings: Settings) -> list[Finding]:
    """Looks up the host of `public_url`, and one below each domain that nobody has taken.

    So a missing wildcard record is noticed. Whether the addresses are this machine's is not judged,
    as it may stand behind others.
    """
    own = urlsplit(settings.public_url).hostname
    domains = [
        domain
        for domain in (settings.base_domain, *settings.former_domains)
        if domain not in _LOCAL and not domain.endswith(".localhost")
    ]
    any_name = f"moorage-check-{secrets.token_hex(4)}"
    return await asyncio.gather(
        *(_found(own, own) for own in ([own] if own and not _is_address(own) else [])),
        *(_found(f"*.{domain}", f"{any_name}.{domain}") for domain in domains),
    )


async def _found(name: str, host: str) -> Finding:
    remedy = f"make a DNS record for {name} with this machine's public address"
    try:
        async with asyncio.timeout(_TIMEOUT_SECONDS):
            answer = await asyncio.get_running_loop().getaddrinfo(
                host, None, type=socket.SOCK_STREAM
            )
    except (OSError, TimeoutError) as error:
        why = str(error) or f"no answer within {_TIMEOUT_SECONDS:g} s"
        return Finding(f"name {name}", ok=False, detail=why, remedy=remedy, blocks=False)
    addresses = ", ".join(sorted({str(each[4][0]) for each in answer}))
    return Finding(f"name {name}", ok=True, detail=f"leads to {addresses}")


def _is_address(host: str) -> bool:
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, host)
        except OSError:
            continue
        return True
    return False
