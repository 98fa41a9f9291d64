"""A domain: a host name of the deployer's own that leads to a project."""

from enum import StrEnum

import msgspec


class DomainStatus(StrEnum):
    """Whether it is proved whose the domain is."""

    PENDING = "pending"  # its TXT record has not been found
    VERIFIED = "verified"  # it leads to the project, and may have a certificate


class Domain(msgspec.Struct, frozen=True):
    """One row of `domains`."""

    host: str
    project_id: str
    token: str
    status: DomainStatus
    problem: str
    created_at_ms: int
    verified_at_ms: int | None
    checked_at_ms: int | None
    next_check_at_ms: int | None
