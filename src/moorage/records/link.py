"""A link: whoever has its URL may look at pages without a wallet."""

import msgspec

from moorage.records.session import Role


class Link(msgspec.Struct, frozen=True, kw_only=True):
    """One row of `links`, without the digest of its secret."""

    id: str
    role: Role
    who: str  # as in sessions
    project_id: str | None = None  # the only project that it shows
    may_change: bool
    once: bool  # whether it is used up when it is opened
    label: str = ""
    created_at_ms: int
    expires_ms: int
    used_ms: int | None = None  # when it was last opened
