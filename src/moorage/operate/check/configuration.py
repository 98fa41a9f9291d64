"""Checks what settings name: addresses, domains, DNS, keys, certificates, authorities, content."""

import asyncio
import secrets
import socket
from collections.abc import Awaitable, Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import urlsplit

import msgspec

from moorage.certificates.availability import authorities_problem
from moorage.certificates.pem import CertificateInvalid, read_certificate
from moorage.clock import iso_utc
from moorage.content.store import ContentStore, open_content, why_unavailable
from moorage.errors import ConfigurationInvalid, ContentUnavailable, InvalidField
from moorage.gateway.alert_channels import channels_of
from moorage.gateway.configuration import receiving_address, serving_chains
from moorage.gateway.data_directory import KEY_FILE, keys_in
from moorage.gateway.duplicate_gateway_check import (
    Answered,
    Asked,
    InstanceToken,
    ask,
    is_public,
    judge,
)
from moorage.gateway.platform import http_url
from moorage.payments.relay.relayer import key_in
from moorage.routing.router import check_base_domain
from moorage.settings import Settings


class Finding(msgspec.Struct, frozen=True):
    """Whether something is there, and the command or change that fixes it."""

    name: str
    ok: bool
    detail: str
    remedy: str = ""
    warns: bool = False  # it works like this, and the remedy makes it safer
    blocks: bool = True  # a gateway does not start without it; else it starts and says so


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
        for domain in (settings.base_domain,)
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


async def check_authority(settings: Settings) -> list[Finding]:
    """Asks the authority; nothing where none is needed."""
    if not settings.asks_elsewhere:
        return []
    problem = await authorities_problem(
        tuple(settings.authorities), root_file=settings.acme_root_file
    )
    remedy = "set acme_directories right, let this machine reach it, or name a wildcard_certificate"
    return [
        Finding(
            "certificate authority",
            not problem,
            problem or "answers",
            remedy if problem else "",
            blocks=False,
        )
    ]


_NAME = "content store"
_PREFIX = "checks"
_TRIED = "a file was written, read, listed and deleted"
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
    return [Finding(_NAME, ok=True, detail=_TRIED)]


async def check_offsite(settings: Settings) -> list[Finding]:
    """Does the same at `backup_to`, where old backups are deleted, and reads the public key."""
    problem, deletes = "", bool(settings.backup_keep_days)
    try:
        store = open_content(settings.backup_to, settings.backup_credentials_file)
        if store is None:
            return []
        from moorage.backup.encryption import recipient_of  # noqa: PLC0415  (1 MiB of memory)

        recipient_of(settings.backup_recipient)
        if deletes:
            await _try(store)
    except (ConfigurationInvalid, InvalidField) as error:
        problem = error.message
    except _Failed as failed:
        problem = str(failed)
    remedy = "set `[backup]` right: docs/run/backup.md" if problem else ""
    detail = problem or (_TRIED if deletes else "the public key is one")
    return [Finding("off-site backups", ok=not problem, detail=detail, remedy=remedy, blocks=False)]


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
                raise _Failed(f"could not {work}: {why_unavailable(error)}") from error


def _remedy(url: str) -> str:
    if url.startswith("file:"):
        return f"make the directory of {url} on what all gateways have mounted, writable for them"
    return (
        f"set content_url right, and region and endpoint_url in content_credentials_file, and let "
        f"the keys put, get, list and delete what is below {url}"
    )


_REMEDY = "stop the gateway there, or have the name lead to this machine"
_LEAD_HERE = "once the gateway serves, it must answer at each address that the name has"


async def check_address(settings: Settings) -> list[Finding]:
    """Compares who answers at `public_url` with the gateway at `host` and `port`, if one runs.

    If none runs, another one at `public_url` is no fault where `database_url` is set: it may share
    the database, which only a start can find out.
    """
    if not is_public(settings.public_url):
        return []
    local = http_url(settings.host, settings.port)
    there, here = await asyncio.gather(ask(settings.public_url, settings.roots), ask(local, ()))
    return [_judged(settings, there, here.gateways[0] if here.gateways else None)]


def _judged(settings: Settings, there: Asked, own: InstanceToken | None) -> Finding:
    name = f"gateway at {settings.public_url}"
    if not there.gateways:
        return Finding(name, True, f"not known: {there.problem}", _LEAD_HERE, warns=True)
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
            if there.problem:
                detail = f"{answered} answers, but not everywhere: {there.problem}"
                return Finding(name, True, detail, _LEAD_HERE, warns=True)
            return Finding(name, ok=True, detail=f"{answered} answers")
    return Finding(name, ok=False, detail=detail, remedy=_REMEDY, blocks=False)


_RENEWED_MS = 14 * 24 * 3_600_000  # a client that works has renewed a certificate before then


def check_configuration(settings: Settings, *, now_ms: int) -> list[Finding]:
    """Checks what `serve` would refuse, and reads the files that the settings name."""
    return [
        _tried("pay_to", lambda: receiving_address(settings), "set pay_to right"),
        _tried("chains", lambda: ", ".join(serving_chains(settings)), "set [chains] right"),
        _domain(settings.base_domain),
        _secrets_key(settings),
        *_sending_keys(settings),
        _tried("alerts", lambda: _alerts(settings), "set [alerts] right; see docs/run/watch.md"),
        *_wildcard(settings, now_ms=now_ms),
    ]


def _tried(name: str, check: Callable[[], str], remedy: str) -> Finding:
    """Returns what `check` finds, or why it refuses."""
    try:
        return Finding(name, ok=True, detail=check())
    except (ConfigurationInvalid, InvalidField) as error:
        return Finding(name, ok=False, detail=str(error), remedy=remedy)


def _domain(domain: str) -> Finding:
    def check() -> str:
        check_base_domain(domain)
        return "apps are served below it"

    return _tried(f"domain {domain}", check, "set base_domain right")


def _secrets_key(settings: Settings) -> Finding:
    name, inside = "secrets key", Path(settings.data_dir) / KEY_FILE
    if not settings.secrets_key_file and not inside.exists():
        return Finding(name, ok=True, detail=f"{inside} is made at the first start")
    path = Path(settings.secrets_key_file or inside)

    def check() -> str:
        return f"{path}, keys: {len(keys_in(path))}"

    return _tried(name, check, "put the key back, or fix the file")


def _sending_keys(settings: Settings) -> Iterator[Finding]:
    """Reads the keys that transactions are sent with."""
    files = {"relayer": settings.relayer_key_file, "refund": settings.refund_key_file}
    remedies = {"relayer": "see docs/run/payments.md", "refund": "fix the file"}
    for use, file in files.items():
        if file:
            check = partial(_address_of, Path(file), option=f"{use}_key_file")
            yield _tried(f"{use} key", check, remedies[use])
    if settings.refund_key_file and settings.pay_to:
        yield from _treasury(settings)


def _treasury(settings: Settings) -> Iterator[Finding]:
    """Judges that refunds are sent from a key of their own: the gateway's process has it."""
    try:
        address = key_in(Path(settings.refund_key_file), option="refund_key_file").address
    except ConfigurationInvalid:
        return
    is_own = address != settings.pay_to.lower()
    detail = "is a key of its own" if is_own else "sends from pay_to, which has all that was paid"
    remedy = "" if is_own else "make one for refunds alone, and send it what some days need"
    yield Finding("treasury", ok=is_own, detail=detail, remedy=remedy, blocks=False)


def _address_of(path: Path, *, option: str) -> str:
    return f"its address is {key_in(path, option=option).address}"


def _alerts(settings: Settings) -> str:
    return ", ".join(channels_of(settings)) or "sent to nobody: set [alerts]"


def _wildcard(settings: Settings, *, now_ms: int) -> Iterator[Finding]:
    """Judges the operator's own certificate: it fits its key, covers apps, and lasts."""
    if not settings.wildcard_certificate:
        return
    name, remedy = "wildcard certificate", "renew it, and name both files in wildcard_certificate"
    if len(settings.wildcard_certificate) != 2:
        yield Finding(name, ok=False, detail="two files are needed", remedy=remedy)
        return
    file, key = map(Path, settings.wildcard_certificate)
    try:
        found = read_certificate(file, key)
    except CertificateInvalid as error:
        yield Finding(name, ok=False, detail=str(error), remedy=remedy)
        return
    until = iso_utc(found.not_after_ms)
    wanted = f"*.{settings.base_domain}"
    if wanted not in found.names:
        detail = f"it is for {', '.join(found.names)}, not for {wanted}"
        yield Finding(name, ok=False, detail=detail, remedy=remedy)
    elif found.not_after_ms <= now_ms:
        yield Finding(name, ok=False, detail=f"it has expired at {until}", remedy=remedy)
    else:
        lasts = found.not_after_ms - now_ms > _RENEWED_MS
        yield Finding(name, lasts, f"it lasts until {until}", "" if lasts else remedy, blocks=False)
