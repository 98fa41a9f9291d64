"""Screening: the operator's own check of a transfer, made before it is credited.

A command or a URL says yes or no. A refused transfer is held, outside the payer's balance, until
the operator releases or refunds it. Without an answer there is no verdict: nothing is credited, and
nothing is lost.
"""

import asyncio
import contextlib
import os
import signal
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any

import aiohttp
import msgspec
import structlog

from moorage.errors import PaymentPending
from moorage.ledger.ledger import Transfer, verdicts_before
from moorage.money import AtomicUnits
from moorage.records.payments import Payment
from moorage.trust import trusting

log = structlog.get_logger()

Screen = Callable[[Transfer], Awaitable[str | None]]
"""Returns why a transfer is held back, or None. Raises PaymentPending without a verdict."""

MAX_ANSWER_BYTES = 64 * 1024
MAX_REASON_CHARACTERS = 500
COMMANDS_AT_ONCE = 8

_ALLOWED, _REFUSED = 0, 1  # exit codes of the command
_NO_REASON = "refused by screening"
_CHUNK_BYTES = 16 * 1024
_DRAIN_SECONDS = 1.0  # a child that left the session may hold the pipe open


class _NoVerdict(Exception):
    """The check did not answer yes or no; the message says what happened."""


class _UrlAnswer(msgspec.Struct):
    allow: bool
    reason: str = ""


_Check = Callable[[bytes], Awaitable[str | None]]
"""Takes the transfer as JSON; returns why it is refused, or None. Raises _NoVerdict."""


class Screening:
    """Asks a command or a URL about a transfer; allows it where there is neither.

    `asked` is an argv: it gets the transfer as JSON on its standard input and exits with 0 to
    allow it, or with 1 after printing why not. A URL alone is sent the same JSON by POST and
    answers `{"allow": bool, "reason": str}`. Anything else, or no answer within `timeout_seconds`,
    is no verdict: a script that crashes also exits with 1, but prints no reason. The command runs
    with `environment`, without the gateway's own variables.
    """

    def __init__(
        self,
        asked: tuple[str, ...] = (),
        *,
        timeout_seconds: float = 10.0,
        environment: Mapping[str, str] = os.environ,
    ) -> None:
        self._asked = asked
        self._timeout_seconds = timeout_seconds
        # The gateway's own variables may hold keys.
        self._environment = {k: v for k, v in environment.items() if not k.startswith("MOORAGE_")}
        self._slots = asyncio.Semaphore(COMMANDS_AT_ONCE)
        is_url = len(asked) == 1 and asked[0].startswith(("http://", "https://"))
        self._trust = trusting() if is_url else True
        self._check: _Check | None = (self._post if is_url else self._run) if asked else None

    async def ask(self, transfer: Transfer) -> str | None:
        """Returns why this transfer must not be credited, for the operator; None if it may be.

        Raises PaymentPending without a verdict.
        """
        if self._check is None:
            return None
        try:
            async with asyncio.timeout(self._timeout_seconds):
                reason = await self._check(msgspec.json.encode(screening_document(transfer)))
        except (_NoVerdict, TimeoutError) as silence:
            why = str(silence) or "timed out"
            log.warning("screening gives no verdict", tx_hash=transfer.tx_hash, why=why)
            raise PaymentPending(
                f"The transaction {transfer.tx_hash} arrived and could not be checked yet. "
                "Do not pay again: send the same request again."
            ) from silence
        if reason is not None:
            log.warning("payment refused", tx_hash=transfer.tx_hash, reason=reason)
        return reason

    async def _run(self, document: bytes) -> str | None:
        async with self._slots:
            try:
                process = await asyncio.create_subprocess_exec(
                    *self._asked,
                    stdin=asyncio.subprocess.PIPE,
                    stdout=asyncio.subprocess.PIPE,
                    stderr=asyncio.subprocess.DEVNULL,
                    env=self._environment,
                    start_new_session=True,
                )
            except (OSError, ValueError) as error:
                raise _NoVerdict(f"the command cannot be run: {error}") from error
            try:
                output, exit_code = await _conversation(process, document)
            except BaseException:
                await _end(process)
                raise
        if exit_code == _ALLOWED:
            return None
        reason = _readable(output.decode(errors="replace"))
        if exit_code == _REFUSED and reason:
            return reason
        raise _NoVerdict(f"the command exited with {exit_code}, having given no reason")

    async def _post(self, document: bytes) -> str | None:
        headers = {"Content-Type": "application/json"}
        try:
            async with (
                aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as session,
                session.post(
                    self._asked[0],
                    data=document,
                    headers=headers,
                    allow_redirects=False,
                    ssl=self._trust,
                ) as response,
            ):
                body = await _bounded(response.content)
                status = response.status
        except (aiohttp.ClientError, OSError) as error:
            raise _NoVerdict("the URL cannot be reached") from error
        if status != 200:
            raise _NoVerdict(f"the URL answered HTTP {status}")
        try:
            answer = msgspec.json.decode(body, type=_UrlAnswer)
        except (msgspec.DecodeError, RecursionError) as error:
            raise _NoVerdict("the URL answered garbage") from error
        return None if answer.allow else _readable(answer.reason) or _NO_REASON


async def allow(_: Transfer) -> None:
    """A screen that holds nothing back."""


async def held_back(
    transfers: Sequence[Transfer], screen: Screen, *, booked: Iterable[Payment] = ()
) -> dict[str, str]:
    """Returns the payers of this transaction whose money is held back, and why.

    `screen` is asked once for each payer and token, with the sum of its transfers, a few at a time.
    Payers with a verdict in `booked`, the recorded payments of the same transaction, are not asked
    about again. Raises as `screen` does.
    """
    verdicts = dict(verdicts_before(booked, transfers))
    asked = [one for one in _in_sum(transfers) if one.payer not in verdicts]
    for at in range(0, len(asked), COMMANDS_AT_ONCE):
        some = asked[at : at + COMMANDS_AT_ONCE]
        answers = await asyncio.gather(*map(screen, some), return_exceptions=True)
        for transfer, reason in zip(some, answers, strict=True):
            if isinstance(reason, BaseException):
                raise reason
            verdicts[transfer.payer] = verdicts.get(transfer.payer) or reason
    return {payer: reason for payer, reason in verdicts.items() if reason is not None}


def _in_sum(transfers: Iterable[Transfer]) -> list[Transfer]:
    """One transfer for each payer and token, with the sum of its transfers; largest first."""
    sums: dict[tuple[str, str], Transfer] = {}
    for transfer in transfers:
        key = (transfer.payer, transfer.token_address)
        before = sums.get(key)
        amount = AtomicUnits(transfer.amount + (before.amount if before else 0))
        sums[key] = msgspec.structs.replace(before or transfer, amount=amount)
    return sorted(sums.values(), key=lambda one: one.worth, reverse=True)


def screening_document(transfer: Transfer) -> dict[str, Any]:
    """Returns what the check receives; `amount` is in the token's atomic units, as decimal text."""
    document = msgspec.structs.asdict(transfer)
    return {**document, "amount": str(transfer.amount)}


def _readable(reason: str) -> str:
    """Returns one line without control characters, of bounded length."""
    printable = "".join(char if char.isprintable() else " " for char in reason)
    return " ".join(printable.split())[:MAX_REASON_CHARACTERS]


async def _conversation(process: asyncio.subprocess.Process, document: bytes) -> tuple[bytes, int]:
    """Returns the command's output and exit code. Raises _NoVerdict for too much output."""
    stdin, stdout = process.stdin, process.stdout
    if stdin is None or stdout is None:
        raise _NoVerdict("the command has no pipes")
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it need not read
        stdin.write(document)
        stdin.close()
    return await _bounded(stdout), await process.wait()


async def _bounded(stream: asyncio.StreamReader | aiohttp.StreamReader) -> bytes:
    content = bytearray()
    while chunk := await stream.read(_CHUNK_BYTES):
        content += chunk
        if len(content) > MAX_ANSWER_BYTES:
            raise _NoVerdict("it answers without end")
    return bytes(content)


async def _end(process: asyncio.subprocess.Process) -> None:
    """Kills the command and the processes it started, which share a session."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_DRAIN_SECONDS):
            if process.stdout is not None:  # `wait` returns only once the pipe was read to its end
                while await process.stdout.read(_CHUNK_BYTES):
                    pass
            await process.wait()
