"""Checks settings that name something: addresses, domains, keys, certificates."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from moorage.certificates.pem import CertificateInvalid, read_certificate
from moorage.clock import iso_utc
from moorage.errors import ConfigurationInvalid, InvalidField
from moorage.gateway.receiving import receiving_address, serving_chains
from moorage.gateway.state.secrets_key import KEY_FILE, keys_in
from moorage.operate.check.finding import Finding
from moorage.payments.relay.relayer import key_in
from moorage.routing.router import check_base_domain
from moorage.settings import Settings

_RENEWED_MS = 14 * 24 * 3_600_000  # a client that works has renewed a certificate before then


def check_configuration(settings: Settings, *, now_ms: int) -> list[Finding]:
    """Checks what `serve` would refuse, and reads the files that the settings name."""
    return [
        _tried("pay_to", lambda: receiving_address(settings), "set pay_to right"),
        _tried("chains", lambda: ", ".join(serving_chains(settings)), "set [chains] right"),
        *(_domain(each) for each in (settings.base_domain, *settings.former_domains)),
        _secrets_key(settings),
        *_sending_keys(settings),
        *_wildcard(settings, now_ms=now_ms),
    ]


def _tried(name: str, look: Callable[[], str], remedy: str) -> Finding:
    """Returns what `look` finds, or why it refuses."""
    try:
        return Finding(name, ok=True, detail=look())
    except (ConfigurationInvalid, InvalidField) as error:
        return Finding(name, ok=False, detail=str(error), remedy=remedy)


def _domain(domain: str) -> Finding:
    def look() -> str:
        check_base_domain(domain)
        return "apps are served below it"

    return _tried(f"domain {domain}", look, "set base_domain and former_domains right")


def _secrets_key(settings: Settings) -> Finding:
    name, inside = "secrets key", Path(settings.data_dir) / KEY_FILE
    if not settings.secrets_key_file and not inside.exists():
        return Finding(name, ok=True, detail=f"{inside} is made at the first start")
    path = Path(settings.secrets_key_file or inside)

    def look() -> str:
        return f"{path}, keys: {len(keys_in(path))}"

    return _tried(name, look, "put the key back, or mend the file")


def _sending_keys(settings: Settings) -> Iterator[Finding]:
    """Reads the keys that transactions are sent with."""
    files = {"relayer": settings.relayer_key_file, "refund": settings.refund_key_file}
    remedies = {"relayer": "see docs/operate/payments.md", "refund": "mend the file"}
    for use, file in files.items():
        if file:
            look = partial(_address_of, Path(file), option=f"{use}_key_file")
            yield _tried(f"{use} key", look, remedies[use])


def _address_of(path: Path, *, option: str) -> str:
    return f"its address is {key_in(path, option=option).address}"


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
