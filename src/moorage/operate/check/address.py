"""Checks that no other gateway answers at the public address."""

import asyncio

from moorage.gateway.platform.opening import http_url
from moorage.gateway.several.asking import Asked, ask, is_public
from moorage.gateway.several.presence import Answered, Presence, judge
from moorage.operate.check.finding import Finding
from moorage.settings import Settings

_REMEDY = "stop the gateway there, or have the name lead to this machine"


async def check_address(settings: Settings) -> list[Finding]:
    """Compares who answers there with the gateway that answers at `host` and `port`, if one does.

    Where none does, it is about to be started, and does not start beside one with other books:
    whether it is one of the same database is asked only then, as a copy of it says the same.
    """
    if not is_public(settings.public_url):
        return []
    local = http_url(settings.host, settings.port)
    there, here = await asyncio.gather(ask(settings.public_url, settings.roots), ask(local, ()))
    return [_judged(settings, there, here.gateways[0] if here.gateways else None)]


def _judged(settings: Settings, there: Asked, own: Presence | None) -> Finding:
    name = f"gateway at {settings.public_url}"
    if not there.gateways:
        return Finding(name, ok=True, detail=f"not known, as none could be asked: {there.problem}")
    if own is None:
        detail = "one answers, though none does here"
        if settings.database_url:
            return Finding(name, ok=True, detail=f"{detail}: it must share database_url")
        return Finding(name, ok=False, detail=detail, remedy=_REMEDY, blocks=False)
    match judge(there.gateways, own):
        case Answered.COPY:
            detail = "another takes payments to the same address: both credit the same payments"
        case Answered.OTHER:
            detail = "another answers, so visitors do not reach this one"
        case answered:
            return Finding(name, ok=True, detail=f"{answered} answers")
    return Finding(name, ok=False, detail=detail, remedy=_REMEDY, blocks=False)
