"""The operator's port, and the log of events that an operator reads."""

from pathlib import Path

import pytest
from starlette.types import Message
from structlog.testing import capture_logs

from moorage.core import Core
from moorage.gateway.operator_port import operator_app
from moorage.gateway.upkeep import OperatorsLog
from moorage.records.event import EventKind
from moorage.storage import events
from moorage.storage.database import Database
from moorage.storage.operation import audit_log
from moorage.storage.operation.audit_log import Act
from moorage.storage.several.leases import Leases
from moorage.storage.vault import KEY_BYTES, Vault
from support.books.records_fixture import ALICE, fund
from support.gateway.clock import MovableClock


@pytest.fixture
def core(db: Database, clock: MovableClock, tmp_path: Path) -> Core:
    leases = Leases(db=db, holder="a gateway", clock=clock)
    return Core(
        db=db, vault=Vault([bytes(KEY_BYTES)]), leases=leases, clock=clock, data_dir=tmp_path
    )


async def logged(log: OperatorsLog) -> list[tuple[str, str]]:
    with capture_logs() as lines:
        await log.tick()
    return [(line["log_level"], line["event"]) for line in lines]


async def tell(core: Core, kind: EventKind, *, before_ms: int = 0) -> None:
    at_ms = core.clock.now_ms() - before_ms
    async with core.db.transaction(durable=False) as tx:
        data = {"project_id": "p", "reason": "why"}
        await events.record(tx, wallet=ALICE, kind=kind, data=data, now_ms=at_ms)


async def test_each_event_is_one_line_with_its_wallet_and_details(
    core: Core, clock: MovableClock
) -> None:
    log = OperatorsLog(core)
    clock.advance(1000)
    await tell(core, EventKind.PROJECT_SUSPENDED)
    with capture_logs() as lines:
        await log.tick()
        await log.tick()
    (line,) = lines
    assert line.pop("event_id").startswith("evt_")
    assert line == {
        "event": "project.suspended",
        "log_level": "info",
        "wallet": ALICE,
        "project_id": "p",
        "reason": "why",
    }


async def test_credit_is_a_line_and_what_is_odd_a_warning(core: Core, clock: MovableClock) -> None:
    log = OperatorsLog(core)
    await fund(core.db, ALICE, 500_000)
    await tell(core, EventKind.PAYMENT_HELD)
    assert await logged(log) == [("info", "payment.credited"), ("warning", "payment.held")]


async def test_event_that_was_committed_late_is_logged(core: Core, clock: MovableClock) -> None:
    log = OperatorsLog(core)
    clock.advance(100_000)
    await tell(core, EventKind.DEPLOYMENT_READY)
    assert await logged(log) == [("info", "deployment.ready")]
    clock.advance(5_000)
    await tell(core, EventKind.DEPLOYMENT_FAILED, before_ms=40_000)
    assert await logged(log) == [("info", "deployment.failed")]
    clock.advance(200_000)
    assert await logged(log) == []


async def test_what_was_before_the_start_is_not_logged_again(
    core: Core, clock: MovableClock
) -> None:
    await tell(core, EventKind.DEPLOYMENT_READY)
    clock.advance(1)
    assert await logged(OperatorsLog(core)) == []


async def test_acts_of_operators_are_lines(core: Core, clock: MovableClock) -> None:
    log = OperatorsLog(core)
    act = Act(at_ms=clock.now_ms(), who="root for ann", act="suspend", subject="shop", reason="x")
    async with core.db.transaction(durable=False) as tx:
        await audit_log.add(tx, act)
    with capture_logs() as lines:
        await log.tick()
        await log.tick()
    (line,) = lines
    assert (line["event"], line["who"], line["act"], line["subject"], line["reason"]) == (
        *("operator acted", "root for ann", "suspend", "shop", "x"),
    )


async def status_at(host: str | None, path: str) -> int:
    async def receive() -> Message:
        raise AssertionError("nobody reads the body")

    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "GET",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": [] if host is None else [(b"host", host.encode())],
    }
    app = operator_app({})
    await app(scope, receive, send)
    return int(sent[0]["status"])


@pytest.mark.parametrize("path", ["/ready", "/metrics"])
async def test_port_answers_by_its_own_names_alone(path: str) -> None:
    """A name that an attacker leads to this machine is in `Host`, whatever address it has."""
    for own in ("127.0.0.1:8403", "[::1]:8403", "10.0.0.7:8403", "localhost", "LOCALHOST:8403"):
        assert await status_at(own, path) == 200
    for own in ("moorage.internal:8403", "operator.moorage.svc:8403", "a.b.svc.cluster.local"):
        assert await status_at(own, path) == 200
    for other in (
        "evil.example:8403",
        "evil:8403",
        "evil.svc.example",
        "evilsvc",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "",
        "[",
    ):
        assert await status_at(other, path) == 421


async def test_port_answers_probes_that_send_no_host() -> None:
    """HTTP/1.0 has none, and no browser leaves it out."""
    assert await status_at(None, "/ready") == 200
