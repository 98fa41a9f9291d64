"""Orders certificates, the first and the next ones: each once, within the authorities' limits."""

import asyncio
import contextlib
import hashlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import NamedTuple

import structlog

from moorage.certificates.authority import Authority, Fault, OrderFailed, Proof, Proofs
from moorage.certificates.pem import (
    Certificate,
    CertificateInvalid,
    digest,
    new_key,
    parse_certificate,
)
from moorage.clock import Clock, SteadyWall
from moorage.errors import MoorageError
from moorage.storage.apps import certificates
from moorage.storage.apps.certificates import Due, Issued
from moorage.storage.database import Database
from moorage.storage.vault import Vault

HOOK_SECONDS = 60.0
_KEPT_MS = 3_600_000
_OUTPUT_BYTES = 500
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
                output, _ = await process.communicate()
        except TimeoutError:
            raise _hook_failed(f"has not ended within {HOOK_SECONDS:.0f} s") from None
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, 9)
                await process.wait()
        if process.returncode != 0:
            words = output[-_OUTPUT_BYTES:].decode(errors="replace").strip()
            raise _hook_failed(f"ended with {process.returncode}: {words or 'it said nothing'}")


def _hook_failed(how: str) -> OrderFailed:
    return OrderFailed(Fault.NAME, f"acme_dns_hook {how}.")


log = structlog.get_logger()

ORDERS_SECONDS = 10.0
MAX_ORDERS = 15
"""In ten minutes: Let's Encrypt refuses who begins more than 300 in three hours."""

UNWANTED_MS = 3 * 86_400_000
"""A name that nobody has wanted for so long gets no other certificate."""

_MINUTE_MS = 60_000
_WINDOW_MS = 10 * _MINUTE_MS
_DAY_MS = 86_400_000
_WEEK_MS = 7 * _DAY_MS
_AT_ONCE = 5
ORDER_SECONDS = 300.0
_CLAIM_MS = round(ORDER_SECONDS * 1000) + _MINUTE_MS
_NAMES_PAUSE_MS = 10 * _MINUTE_MS  # at first, then twice as long: three in the first hour
_LIMITED_MS = 60 * _MINUTE_MS  # where an authority names no time
_AWAY_MS = _MINUTE_MS  # until a name's next turn, so that other names have theirs
_AWAY_SECONDS = (10.0, 300.0)  # how long an authority is left alone: at first, at most
_LIMITED_SECONDS = 60.0
_WRONG_CLOCK_SECONDS = 3600.0


def renewal_ms(certificate: Certificate, name: str) -> int:
    """Returns when to order the next: after two thirds of its life, 5 % sooner or later by name."""
    life_ms = certificate.not_after_ms - certificate.not_before_ms
    spread = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4]) / 2**32 - 0.5
    return certificate.not_before_ms + round(life_ms * (2 / 3 + spread / 10))


def issued(certificate: Certificate, name: str, *, vault: Vault, authority: str) -> Issued:
    """Returns a certificate as it is stored."""
    return Issued(
        chain=certificate.chain,
        sealed_key=vault.seal_key(certificate.key, name),
        pem_sha256=digest(certificate.pem),
        not_before_ms=certificate.not_before_ms,
        not_after_ms=certificate.not_after_ms,
        authority=authority,
        order_at_ms=renewal_ms(certificate, name),
    )


class _Pause(NamedTuple):
    """An authority that is left alone for a while; `seconds` grow with each failure."""

    until_seconds: float  # of the monotonic clock
    seconds: float


@dataclass(eq=False, kw_only=True)
class Orders:
    """The orders of one gateway. A claim in the rows keeps others off the same name.

    Times are those of a clock that can be set back, but not forward, while a gateway runs: else all
    certificates would seem to have expired at once.
    """

    db: Database
    vault: Vault
    authorities: Sequence[Authority]  # the second is asked when the first is away, or has enough
    proofs: Proofs
    clock: Clock
    on_issued: Callable[[], Awaitable[None]]

    def __post_init__(self) -> None:
        self._wall = SteadyWall(self.clock)
        self._is_limited = any(each.is_limited for each in self.authorities)
        self._pauses: dict[str, _Pause] = {}  # by the authority's directory
        self._under_way: set[asyncio.Task[None]] = set()
        self._beginning = asyncio.Lock()
        self._wanted = asyncio.Event()

    def kick(self) -> None:
        """Has `run` begin what is due, at once."""
        self._wanted.set()

    def resume(self) -> None:
        """Asks at once again where it was left alone, as an authority is back."""
        self._pauses.clear()
        self.kick()

    async def run(self) -> None:
        """Begins orders each time that it is asked to; cancelled, ends those under way."""
        try:
            while True:
                await self._wanted.wait()
                self._wanted.clear()
                try:
                    await self.begin()
                except MoorageError as error:
                    log.warning("certificates are not ordered", error=error.message)
                except Exception:  # one fault in it must not end the gateway
                    log.exception("certificates are not ordered")
        finally:
            for task in self._under_way:
                task.cancel()
            await self.settled()

    async def settled(self) -> None:
        """Waits until no order of this gateway is under way."""
        while self._under_way:
            await asyncio.wait(self._under_way)

    async def begin(self) -> None:
        """Begins orders that are due, a few at a time. Raises DatabaseUnavailable."""
        async with self._beginning:
            now_ms = self._wall.now_ms()
            for due in await self._due(now_ms):
                if not await self._claim(due, now_ms):
                    continue
                task = asyncio.create_task(self._order(due._replace(fence=due.fence + 1)))
                self._under_way.add(task)
                task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._under_way.discard(task)
        if not task.cancelled():
            self.kick()

    async def _due(self, now_ms: int) -> list[Due]:
        room = _AT_ONCE - len(self._under_way)
        if all(each.directory in self._pauses for each in self.authorities):
            room = 1 - len(self._under_way)  # one order shows whether one is back
        if room <= 0 or not any(map(self._is_open, self.authorities)):
            return []
        return await certificates.due(
            self.db,
            now_ms=now_ms,
            wanted_ms=now_ms - UNWANTED_MS,
            urgent_ms=now_ms + _WEEK_MS,
            latest_ms=now_ms + 2 * _CLAIM_MS,
            latest_order_ms=now_ms + _WEEK_MS + _DAY_MS,
            limit=room,
        )

    async def _claim(self, due: Due, now_ms: int) -> bool:
        """Takes a name for one order; returns False if another has it, or no more are allowed."""
        async with self.db.transaction(durable=False) as tx:
            since_ms = now_ms - _WINDOW_MS
            begun = await certificates.ordered_since(tx, since_ms=since_ms, now_ms=now_ms)
            if self._is_limited and begun >= MAX_ORDERS:
                return False
            return await certificates.claim(
                tx,
                due.name,
                fence=due.fence,
                now_ms=now_ms,
                until_ms=now_ms + _CLAIM_MS,
                latest_ms=now_ms + 2 * _CLAIM_MS,
            )

    async def _order(self, due: Due) -> None:
        try:
            failure = await self._tried(due)
            if failure is not None:
                await self._fail(due, failure)
        except asyncio.CancelledError:
            await self._give_back(due)
            raise
        except MoorageError as error:  # the claim ends by itself
            log.warning("a certificate is ordered again", name=due.name, error=error.message)
        except Exception:  # one fault in it must not end the others
            log.exception("a certificate is ordered again", name=due.name)

    async def _tried(self, due: Due) -> OrderFailed | None:
        """Orders at one authority after the other; returns why no one gave a certificate."""
        failure = OrderFailed(Fault.AUTHORITY, "The certificate authority is away.")
        for authority in filter(self._is_open, self.authorities):
            key = new_key()
            try:
                async with asyncio.timeout(ORDER_SECONDS):
                    chain = await authority.certify(due.name, key, self.proofs)
                certificate = self._checked(due.name, chain, key)
            except TimeoutError:
                failure = OrderFailed(Fault.AUTHORITY, "The authority has not answered in time.")
            except CertificateInvalid as error:
                failure = OrderFailed(Fault.AUTHORITY, f"The authority's certificate: {error}.")
            except OrderFailed as failed:
                failure = failed
            else:
                self._pauses.pop(authority.directory, None)
                await self._store(due, certificate, authority.directory)
                return None
            self._note(authority, failure)
            if failure.fault is Fault.NAME:
                break
        return failure

    def _checked(self, name: str, chain: str, key: str) -> Certificate:
        certificate = parse_certificate(chain, key)
        if name not in certificate.names:
            raise CertificateInvalid(f"it is for {', '.join(certificate.names)}, not for {name}")
        now_ms = self._wall.now_ms()
        if not certificate.not_before_ms - _DAY_MS <= now_ms < certificate.not_after_ms:
            raise OrderFailed(
                Fault.AUTHORITY,
                "A new certificate is not valid by this machine's clock: set the clock right.",
                retry_after_seconds=_WRONG_CLOCK_SECONDS,
            )
        return certificate

    async def _store(self, due: Due, certificate: Certificate, authority: str) -> None:
        row = issued(certificate, due.name, vault=self.vault, authority=authority)
        async with self.db.transaction(durable=True) as tx:
            is_stored = await certificates.issue(tx, due.name, row, fence=due.fence)
        log.info("certificate came", name=due.name, stored=is_stored)
        try:
            await self.on_issued()
        except MoorageError as error:  # it is tried again by itself
            log.warning("certificate not installed yet", name=due.name, error=error.message)

    def _is_open(self, authority: Authority) -> bool:
        pause = self._pauses.get(authority.directory)
        return pause is None or pause.until_seconds <= self.clock.monotonic_seconds()

    def _note(self, authority: Authority, failure: OrderFailed) -> None:
        """Leaves an authority alone for a while that is away, or that has had enough."""
        directory, now = authority.directory, self.clock.monotonic_seconds()
        if failure.fault is Fault.NAME:
            self._pauses.pop(directory, None)
        elif failure.fault is Fault.LIMIT:
            self._pauses[directory] = _Pause(now + _LIMITED_SECONDS, 0.0)
        else:
            first, longest = _AWAY_SECONDS
            before = self._pauses.get(directory)
            seconds = first if before is None else min(max(first, 2 * before.seconds), longest)
            until = now + max(seconds, failure.retry_after_seconds)
            self._pauses[directory] = _Pause(until, seconds)

    async def _fail(self, due: Due, failure: OrderFailed) -> None:
        """Records when to try next. An order at an authority that is away counts for no limit."""
        now_ms, failures = self._wall.now_ms(), due.failures
        if failure.fault is Fault.NAME:
            pause_ms = min(_NAMES_PAUSE_MS * 2 ** min(failures, 10), _DAY_MS)
            if due.not_after_ms is not None:  # the nearer its end, the sooner
                quarter_ms = (due.not_after_ms - now_ms) // 4
                pause_ms = min(pause_ms, max(quarter_ms, _NAMES_PAUSE_MS))
            failures += 1
        elif failure.fault is Fault.LIMIT:
            asked_ms = round(failure.retry_after_seconds * 1000) or _LIMITED_MS
            pause_ms = min(max(asked_ms, _NAMES_PAUSE_MS), _WEEK_MS)
        else:
            pause_ms = _AWAY_MS
        async with self.db.transaction(durable=False) as tx:
            await certificates.fail(
                tx,
                due.name,
                fence=due.fence,
                failures=failures,
                problem=failure.reason,
                next_ms=now_ms + pause_ms,
            )
            if failure.fault is Fault.AUTHORITY:
                await certificates.give_back(tx, due.name, fence=due.fence)
        log.warning("no certificate", name=due.name, error=failure.reason, fault=failure.fault)

    async def _give_back(self, due: Due) -> None:
        """Ends the claim of an order that this gateway can't finish."""
        try:
            async with self.db.transaction(durable=False) as tx:
                await certificates.give_back(tx, due.name, fence=due.fence)
        except MoorageError as error:  # it ends by itself
            log.warning("an order's claim stays", name=due.name, error=error.message)
