"""Sessions of browsers, and links that open one without a wallet."""

from enum import StrEnum

import msgspec


class Role(StrEnum):
    """Whose pages a session, or a link, opens."""

    WALLET = "wallet"  # the pages of one wallet
    OPERATOR = "operator"  # the pages of the gateway's operator


class Scope(StrEnum):
    """What may be done for a wallet by another that has no power but this."""

    READ = "read"  # look at projects, logs, credits and events
    DEPLOY = "deploy"  # open projects, and change those there are
    DELETE = "delete"  # delete projects


class StoredDelegation(msgspec.Struct, frozen=True, kw_only=True):
    """One row of `delegations`."""

    id: str  # the digest that its owner signed, in hex
    owner: str
    delegate: str
    host: str
    project: str  # the unique name of the only project; "" for all
    scopes: str  # with a space between them, in the order that was signed
    limit_usd_month: int  # dollars that it may commit in a calendar month
    not_after: int  # Unix seconds
    epoch: int
    signature: str
    created_at_ms: int
    ended_at_ms: int | None = None  # when its owner ended it: it stays, so that it can't come again

    def covers(self, scope: Scope) -> bool:
        """Whether it has that scope."""
        return scope in self.scopes.split()


class StoredSession(msgspec.Struct, frozen=True, kw_only=True):
    """One row of `sessions`."""

    digest: str  # SHA-256 of the secret in the browser's cookie
    role: Role
    who: str  # a wallet; of an operator also the name of who made the link
    project_id: str | None = None  # a link may be for one project alone
    may_change: bool
    link_id: str | None = None  # the link that opened it, if that can be opened again
    nonce: str | None = None  # of the text that was signed to sign in: it is used once
    created_at_ms: int
    expires_ms: int
    signed_ms: int | None = None  # when the last text was issued that its wallet signed


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


class Recovery(msgspec.Struct, frozen=True, kw_only=True):
    """One row of `recoveries`: who may take a wallet over when its key is lost."""

    wallet: str
    address: str  # in force; "" for none
    wait_days: int
    next_address: str = ""
    next_wait_days: int = 0
    change_at_ms: int | None = None  # when the next takes effect
    change_billed_ms: int | None = None
    claim_at_ms: int | None = None  # when the address takes the wallet over
    claim_billed_ms: int | None = None
    claim_not_before_ms: int = 0
    told_at_ms: int = 0  # when the address was last told that it will change
    taken_over_at_ms: int | None = None

    @property
    def is_claimed(self) -> bool:
        """Whether the address has asked for the wallet, and does not have it yet."""
        return self.claim_at_ms is not None and self.taken_over_at_ms is None
