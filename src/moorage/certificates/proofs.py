"""Where an authority finds the proof of a name: at any gateway by HTTP, or in DNS by a hook."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import structlog

from moorage.certificates.authority import Fault, OrderFailed, Proof
from moorage.clock import Clock
from moorage.storage.apps import certificates
from moorage.storage.database import Database

log = structlog.get_logger()

HOOK_SECONDS = 60.0
_KEPT_MS = 3_600_000
_SAID_BYTES = 500
_PASSED = ("PATH", "HOME", "LANG", "TZ")  # the rest may hold secrets of the gateway's


class PlacedProofs:
    """Proofs of HTTP-01 are rows; those of DNS-01 are placed by the operator's hook."""

    def __init__(self, db: Database, *, hook: Sequence[str], clock: Clock) -> None:
        """`hook` is a command and its arguments; it is given `add` or `remove`, name and value."""
        self._db = db
        self._hook = tuple(hook)
        self._clock = clock

    @asynccontextmanager
    async def placed(self, proof: Proof) -> AsyncIterator[None]:
        """As `Proofs.placed`."""
        if not proof.token:
            async with self._in_dns(proof):
                yield
            return
        async with self._db.transaction(durable=False) as tx:
            await certificates.add_challenge(
                tx,
                proof.token,
                host=proof.name,
                answer=proof.value,
                expires_at_ms=self._clock.now_ms() + _KEPT_MS,
            )
        try:
            yield
        finally:
            expired_ms = self._clock.now_ms() - _KEPT_MS
            async with self._db.transaction(durable=False) as tx:
                await certificates.remove_challenges(tx, proof.token, expired_ms=expired_ms)

    async def answer(self, token: str) -> str | None:
        """Returns what to answer at `/.well-known/acme-challenge/` and the token, or None."""
        return await certificates.answer(self._db, token)

    @asynccontextmanager
    async def _in_dns(self, proof: Proof) -> AsyncIterator[None]:
        record = f"_acme-challenge.{proof.name}"
        try:
            await self._run("add", record, proof.value)
            yield
        finally:
            try:
                await self._run("remove", record, proof.value)
            except OrderFailed as failure:  # the record harms nobody
                log.warning("a record stays in DNS", record=record, error=failure.reason)

    async def _run(self, *given: str) -> None:
        """Runs the hook. Raises OrderFailed."""
        environment = {name: os.environ[name] for name in _PASSED if name in os.environ}
        try:
            process = await asyncio.create_subprocess_exec(
                *self._hook,
                *given,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                env=environment,
                start_new_session=True,
            )
        except OSError as error:
            raise _hook_failed(f"cannot be run ({error.strerror})") from error
        try:
            async with asyncio.timeout(HOOK_SECONDS):
                said, _ = await process.communicate()
        except TimeoutError:
            raise _hook_failed(f"has not ended within {HOOK_SECONDS:.0f} s") from None
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, 9)
                await process.wait()
        if process.returncode != 0:
            words = said[-_SAID_BYTES:].decode(errors="replace").strip()
            raise _hook_failed(f"ended with {process.returncode}: {words or 'it said nothing'}")


def _hook_failed(how: str) -> OrderFailed:
    return OrderFailed(Fault.NAME, f"acme_dns_hook {how}.")
