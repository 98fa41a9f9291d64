"""The other gateways on the database: those that run must have the same keys as this one."""

import asyncio
import hashlib
import secrets
from pathlib import Path

import structlog

from moorage.clock import Clock
from moorage.errors import (
    AlreadyRunning,
    ConfigurationInvalid,
    DatabaseUnavailable,
    VariablesUnreadable,
)
from moorage.payments.relay.relayer import key_in
from moorage.settings import Settings
from moorage.storage.database import Database
from moorage.storage.several import cluster
from moorage.storage.several.cluster import RunningGateway
from moorage.storage.vault import Vault

log = structlog.get_logger()

SAY_SECONDS = 15.0
COPY_SECONDS = 2 * SAY_SECONDS + 5.0
"""How long a gateway of this id on another machine must be silent to be taken for gone.

Two ticks of a loop may lie two periods apart.
"""

_LEAVE_SECONDS = 5.0
_CHALLENGES = "challenges"
_SETTINGS = {"variables": "secrets_key_file", "relayer": "relayer_key_file"}
"""By what a key is for: the setting that names its file."""


class Siblings:
    """This gateway among those that run on the database."""

    def __init__(self, *, db: Database, clock: Clock, own: RunningGateway) -> None:
        self._db = db
        self._clock = clock
        self._own = own

    async def enter(self) -> None:
        """Says that this gateway runs. Raises ConfigurationInvalid if another has other keys.

        Raises AlreadyRunning if one with its id runs on another machine.
        """
        await self._refuse_copy()
        now_ms = self._clock.now_ms()
        async with self._db.transaction(durable=True) as tx:
            for other in await cluster.running(tx, now_ms=now_ms):
                if other.id != self._own.id:
                    self._compare(other)
            await cluster.say(tx, self._own, now_ms=now_ms)

    async def say(self) -> None:
        """Says again that this gateway runs."""
        async with self._db.transaction(durable=False) as tx:
            await cluster.say(tx, self._own, now_ms=self._clock.now_ms())

    async def leave(self) -> None:
        """Says that this gateway runs no more: the next may have other keys at once."""
        try:
            async with (
                asyncio.timeout(_LEAVE_SECONDS),
                self._db.transaction(durable=False) as tx,
            ):
                await cluster.leave(tx, self._own.id)
        except (DatabaseUnavailable, TimeoutError):
            log.warning("others on the database take this gateway for running, for a minute")

    async def _refuse_copy(self) -> None:
        """Raises AlreadyRunning when a gateway with this id says on another machine that it runs.

        It may also be this one, before its machine was started again: so that is waited for.
        """
        before = await self._elsewhere()
        if before is None:
            return
        log.warning("another machine's gateway had this id; waiting", seconds=COPY_SECONDS)
        await asyncio.sleep(COPY_SECONDS)
        after = await self._elsewhere()
        if after is not None and after.seen_at_ms != before.seen_at_ms:
            raise AlreadyRunning(
                f"data_dir is a copy: a gateway {after.name} with the same gateway.id runs on "
                "another machine. Remove gateway.id from the copy, or stop that gateway."
            )

    async def _elsewhere(self) -> RunningGateway | None:
        """Returns the gateway with this id that runs, or ran a moment ago, on another machine."""
        found = await cluster.running(self._db, now_ms=self._clock.now_ms())
        for other in found:
            if other.id == self._own.id and other.boot not in ("", self._own.boot):
                return other
        return None

    def _compare(self, other: RunningGateway) -> None:
        for use, fingerprint in self._own.keys.items():
            if other.keys.get(use, fingerprint) != fingerprint:
                raise ConfigurationInvalid(
                    f"{_SETTINGS[use]}: the gateway {other.name} on this database has another key "
                    f"({other.keys[use]}, here {fingerprint}). Give all of them the same file."
                )


def fingerprints(settings: Settings, *, vault: Vault) -> dict[str, str]:
    """Returns what tells keys apart, by what they are for. Raises ConfigurationInvalid."""
    found = {"variables": vault.mark}
    if settings.relayer_key_file:
        found["relayer"] = key_in(
            Path(settings.relayer_key_file), option="relayer_key_file"
        ).address
    return found


async def challenge_secret(db: Database, vault: Vault) -> bytes:
    """Returns the secret of payment challenges that all gateways on the database share.

    It is stored sealed, with the first key. Where no key opens it any more, there is another one,
    and clients are given fresh challenges.
    """
    fresh = vault.seal_secret(secrets.token_hex(32), _CHALLENGES)
    text = await cluster.agree(db, _CHALLENGES, fresh)
    try:
        secret = vault.open_secret(text, _CHALLENGES)
    except VariablesUnreadable:
        log.warning("payment challenges have a new secret: no key opens the one that was stored")
        await cluster.replace(db, _CHALLENGES, fresh)
        secret = vault.open_secret(fresh, _CHALLENGES)
    else:
        if not text.startswith(vault.mark):  # that key's line may go
            await cluster.replace(db, _CHALLENGES, vault.seal_secret(secret, _CHALLENGES))
    return hashlib.sha256(secret.encode()).digest()
