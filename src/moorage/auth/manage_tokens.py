"""Manage tokens: whoever has one reads and changes one project, and nothing else of its wallet."""

import hashlib
import re
import secrets

from moorage.clock import Clock
from moorage.errors import TokenInvalid
from moorage.storage import page_access
from moorage.storage.database import Database
from moorage.storage.page_access import ManagedProject

MAX_TOKENS = 20
"""How many a project has at most; with one more the oldest goes."""

_TOKEN = re.compile(r"mgt_[A-Za-z0-9_-]{43}")


class ManageTokens:
    """Makes, finds and revokes the tokens of projects; kept is the SHA-256 of each."""

    def __init__(self, *, db: Database, clock: Clock) -> None:
        self._db = db
        self._clock = clock

    async def make(self, project_id: str) -> str:
        """Returns a new token of 256 random bits for the project; it can't be had again."""
        token = "mgt_" + secrets.token_urlsafe(32)
        async with self._db.transaction(durable=True) as tx:
            await page_access.add_manage_token(
                tx,
                digest=_digest(token),
                project_id=project_id,
                now_ms=self._clock.now_ms(),
                max_kept=MAX_TOKENS,
            )
        return token

    async def project_of(self, token: str) -> ManagedProject:
        """Returns the project that a token manages. Raises TokenInvalid."""
        is_one = _TOKEN.fullmatch(token) is not None
        found = await page_access.find_manage_token(self._db, _digest(token)) if is_one else None
        if found is None:
            raise TokenInvalid(header="Authorization")
        return found

    async def revoke(self, project_id: str) -> int:
        """Makes all tokens of a project invalid; returns how many there were."""
        async with self._db.transaction(durable=True) as tx:
            return await page_access.revoke_manage_tokens(tx, project_id)


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
