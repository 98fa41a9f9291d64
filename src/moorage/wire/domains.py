"""Domains of a project."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from moorage.records.domain import DomainStatus
from moorage.wire.shape import Absent, Body, Time


class DomainBody(Body, frozen=True, kw_only=True):
    """A domain that is to lead to a project."""

    domain: Annotated[str, Meta(description="a host name; Unicode is folded to punycode")]


class DnsRecord(Body, frozen=True, kw_only=True):
    """A DNS record to set."""

    type: Literal["TXT", "CNAME"]
    name: str
    value: str


class DomainItem(Body, frozen=True, kw_only=True):
    """A domain of a project; `problem` is what the last look at its TXT record found."""

    domain: str
    status: DomainStatus
    url: Annotated[str | None, Absent(None)]
    problem: Annotated[str, Absent("")]
    records: Annotated[
        list[DnsRecord], Meta(description="the TXT record proves, the other leads"), Absent([])
    ]
    next_actions: Annotated[list[str], Absent([])]
    created_at: Annotated[Time, Absent("")]
    verified_at: Annotated[Time | None, Absent(None)]
    checked_at: Annotated[Time | None, Absent(None)]
    next_check_at: Annotated[
        str | None, Meta(description="when it is checked next; null: no more"), Absent(None)
    ]


class DomainList(Body, frozen=True, kw_only=True):
    """The domains of a project, oldest first."""

    project_id: Annotated[str, Absent("")] = msgspec.field(name="projectId")
    domains: list[DomainItem]


class DomainRemoved(Body, frozen=True, kw_only=True):
    """A domain that is removed."""

    domain: str
    status: Literal["removed"] = "removed"
