"""A domain: a host name of the deployer's own that is routed to a project."""

import re
import secrets
from enum import StrEnum

import idna
import msgspec

from moorage.errors import InvalidField

_MAX_CHARACTERS = 253  # of any host name (RFC 1035)
_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_HOST = re.compile(rf"(?:{_LABEL}\.)+{_LABEL}")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")  # a last label that makes an IPv4 address (WHATWG URL)


class DomainStatus(StrEnum):
    """Whether it is proved whose the domain is."""

    PENDING = "pending"  # its TXT record has not been found
    VERIFIED = "verified"  # it is routed to the project, and may have a certificate


class Domain(msgspec.Struct, frozen=True, kw_only=True):
    """One row of `domains`: a project's claim on a host."""

    host: str
    project_id: str
    token: str
    status: DomainStatus = DomainStatus.PENDING
    problem: str = ""
    created_at_ms: int
    verified_at_ms: int | None = None
    checked_at_ms: int | None = None
    next_check_at_ms: int | None = None

    @property
    def record_name(self) -> str:
        """The name of the TXT record that proves the claim."""
        return f"_moorage.{self.host}"

    @property
    def record_value(self) -> str:
        """What that record must hold."""
        return f"moorage-verification={self.token}"


def new_token() -> str:
    """A fresh token for a claim: 128 random bits."""
    return secrets.token_hex(16)


class DomainRules(msgspec.Struct, frozen=True):
    """The rules for host names that a project may have besides its own."""

    base_domains: tuple[str, ...]  # below which every app is served
    gateway_host: str
    max_length: int  # of a host that can be routed

    def host(self, text: str) -> str:
        """Returns the host name in lower-case ASCII (IDNA 2008). Raises InvalidField."""
        host = _ascii(text)
        problem = self._problem(host)
        if problem is not None:
            raise InvalidField("domain", problem)
        return host

    def _problem(self, host: str) -> str | None:
        if not _HOST.fullmatch(host):
            return (
                "must be a host name of two labels or more, such as app.example.com, "
                "without scheme, port, path or wildcard"
            )
        if _NUMBER.fullmatch(host.rpartition(".")[2]):
            return "must be a host name, not an address"
        if len(host) > self.max_length:
            return f"is longer than the {self.max_length} characters that this gateway can route"
        for domain in self.base_domains:
            if f".{host}".endswith(f".{domain}"):
                return f"{domain} and what is below it belong to the gateway"
        if host == self.gateway_host:
            return "is the gateway's own address"
        return None


def _ascii(text: str) -> str:
    """Returns `text` in lower case with its labels in punycode, or unchanged where that fails."""
    trimmed = text.strip().removesuffix(".")
    if len(trimmed) > _MAX_CHARACTERS:
        raise InvalidField("domain", f"is longer than {_MAX_CHARACTERS} characters")
    try:
        return idna.encode(trimmed, uts46=True).decode("ascii")
    except idna.IDNAError:
        return trimmed
