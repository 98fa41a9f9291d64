"""Tokens in place of a signature: links to pages for people, and manage tokens of projects."""

import hashlib
import re
import secrets
from collections.abc import Iterable
from typing import NamedTuple

import msgspec

from moorage.clock import Clock
from moorage.errors import LinkNotFound, TokenInvalid, TooManyLinks
from moorage.records.access import Link, Role, Scope
from moorage.storage import idempotency, page_access
from moorage.storage.database import Database, Transaction
from moorage.storage.idempotency import Claim
from moorage.storage.page_access import ManagedProject, ManageToken

MAX_TOKENS = 20
"""How many a project has at most; with one more the oldest goes."""

_TOKEN = re.compile(r"mgt_[A-Za-z0-9_-]{43}")


class MadeToken(NamedTuple):
    """A new token, as it is stored, and its text for whom it is made."""

    stored: ManageToken
    token: str


class ManageTokens:
    """Makes, finds and revokes the tokens of projects; kept is the SHA-256 of each."""

    def __init__(self, *, db: Database, clock: Clock) -> None:
        self._db = db
        self._clock = clock

    async def make(
        self,
        project_id: str,
        *,
        scopes: Iterable[Scope] = Scope,
        lifetime_ms: int | None = None,
        claim: Claim | None = None,
    ) -> "MadeToken":
        """Makes a token of 256 random bits for the project; it can't be had again."""
        token, now_ms = _new(), self._clock.now_ms()
        stored = ManageToken(
            id=secrets.token_hex(4),
            digest=_digest(token),
            project_id=project_id,
            created_at_ms=now_ms,
            scopes=" ".join(scopes),
            expires_ms=None if lifetime_ms is None else now_ms + lifetime_ms,
        )
        async with self._db.transaction(durable=True) as tx:
            await page_access.add_manage_token(tx, stored, max_kept=MAX_TOKENS)
            await idempotency.carried_out(tx, claim, stored)
        return MadeToken(stored, token)

    async def make_again(self, lost: ManageToken) -> "MadeToken":
        """Returns another text for a token whose text was lost, and voids the lost one.

        Raises TokenInvalid if the token was revoked meanwhile.
        """
        token = _new()
        stored = msgspec.structs.replace(lost, digest=_digest(token))
        async with self._db.transaction(durable=True) as tx:
            if not await page_access.replace_manage_token(tx, stored):
                raise TokenInvalid
        return MadeToken(stored, token)

    async def project_of(self, token: str) -> ManagedProject:
        """Returns the project that a token manages. Raises TokenInvalid."""
        is_one = _TOKEN.fullmatch(token) is not None
        now_ms = self._clock.now_ms()
        found = (
            await page_access.find_manage_token(self._db, _digest(token), now_ms=now_ms)
            if is_one
            else None
        )
        if found is None:
            raise TokenInvalid(header="Authorization")
        return found

    async def revoke(self, project_id: str) -> int:
        """Makes all tokens of a project invalid; returns how many there were."""
        async with self._db.transaction(durable=True) as tx:
            return await page_access.revoke_manage_tokens(tx, project_id)


def _new() -> str:
    return "mgt_" + secrets.token_urlsafe(32)


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


ONCE_MS = 10 * 60_000
"""How long a link is good that opens once."""

DAY_MS = 24 * 3_600_000
MAX_LINKS = 100
"""How many links a wallet has at most that open again and again."""

_MAX_ONCE = 20
_MAX_ROWS = 100_000
_SECRET = re.compile(r"[A-Za-z0-9_-]{43}")


class LinkOrder(msgspec.Struct, frozen=True, kw_only=True):
    """What a link is to be."""

    who: str
    role: Role = Role.WALLET
    project_id: str | None = None
    may_change: bool = False
    once: bool = False
    label: str = ""
    lifetime_ms: int


class MadeLink(NamedTuple):
    """A new link, and its secret, which can't be had again."""

    link: Link
    secret: str


class Links:
    """Makes, lists and revokes links; kept is the SHA-256 of each secret."""

    def __init__(self, *, db: Database, clock: Clock) -> None:
        self._db = db
        self._clock = clock

    async def make(self, order: LinkOrder) -> MadeLink:
        """Makes a link with a secret of 256 random bits. Raises TooManyLinks."""
        async with self._db.transaction(durable=True) as tx:
            return await add_link(tx, order, now_ms=self._clock.now_ms())

    async def listed(self, who: str, *, role: Role = Role.WALLET) -> list[Link]:
        """Returns the links that open again and again, the oldest first."""
        return await page_access.listed_links(self._db, who, role=role, now_ms=self._clock.now_ms())

    async def revoke(self, link_id: str, *, who: str, role: Role = Role.WALLET) -> None:
        """Removes a link, and ends the sessions that it has opened. Raises LinkNotFound."""
        async with self._db.transaction(durable=True) as tx:
            if not await page_access.remove_link(tx, link_id, who=who, role=role):
                raise LinkNotFound
            await page_access.end_sessions_of_link(tx, link_id, now_ms=self._clock.now_ms())


async def add_link(tx: Transaction, order: LinkOrder, *, now_ms: int) -> MadeLink:
    """Makes a link, as `Links.make` does."""
    link = Link(
        id=secrets.token_hex(8),
        role=order.role,
        who=order.who,
        project_id=order.project_id,
        may_change=order.may_change,
        once=order.once,
        label=order.label,
        created_at_ms=now_ms,
        expires_ms=now_ms + order.lifetime_ms,
    )
    if not link.once:
        count = await page_access.count_links(tx, link.who, role=link.role, now_ms=now_ms)
        if count >= MAX_LINKS:
            raise TooManyLinks(MAX_LINKS)
    secret = secrets.token_urlsafe(32)
    digest = digest_of(secret)
    await page_access.add_link(tx, link, digest=digest, max_once=_MAX_ONCE, max_rows=_MAX_ROWS)
    return MadeLink(link, secret)


def digest_of(secret: str) -> str:
    """Returns what is stored of a secret; of what can't be one, a digest that nothing has."""
    return hashlib.sha256(secret.encode()).hexdigest() if _SECRET.fullmatch(secret) else ""
