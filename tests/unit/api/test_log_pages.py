"""What a log's request may ask for, who may, and when nothing more can come."""

from typing import Any, cast

import msgspec
import pytest

from moorage.api.http.caller import Person, answered
from moorage.api.logs import Followers, LogStreamResponse, show_logs
from moorage.engines.engine import Instance, LogPage
from moorage.errors import (
    DeploymentNotFound,
    InvalidField,
    ProjectNotFound,
    TooManyStreams,
    WrongWallet,
)
from moorage.records.deployment import Deployment, DeploymentStatus, LogKind
from moorage.records.project import ProjectStatus, Transfer
from moorage.storage.apps import transfers
from moorage.storage.database import Database
from support.books.records_fixture import ALICE, BOB, add_deployment, add_project
from support.gateway.believed import Believed, body_of, request_of
from support.gateway.clock import MovableClock
from support.gateway.fakes import FakeRuntime


class Recording(FakeRuntime):
    """Notes what is asked of a log."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[dict[str, Any]] = []

    async def read_log(self, deployment_id: str, kind: LogKind, **asked: Any) -> LogPage:
        self.asked.append({"kind": kind, **asked})
        return await super().read_log(deployment_id, kind, **asked)


class Asking(Believed):
    """Asks as a wallet whose signature has been checked."""

    def __init__(self, db: Database, clock: MovableClock) -> None:
        self.runtime = Recording()
        super().__init__(db, clock, runtime=self.runtime, followers=Followers())

    async def response(self, found: Deployment, query: str = "", **asked: Any) -> Any:
        request = request_of(query, projectId=found.project_id, deploymentId=found.id, **asked)
        return await answered(show_logs, self.room, request)

    async def page(self, found: Deployment, query: str = "", **asked: Any) -> dict[str, Any]:
        return body_of(await self.response(found, query, **asked))


@pytest.fixture
def asking(db: Database, clock: MovableClock) -> Asking:
    return Asking(db, clock)


async def made(db: Database, status: DeploymentStatus) -> Deployment:
    return await add_deployment(db, await add_project(db), status)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", {"after": 0, "since_ms": 0, "tail": 500}),
        ("tail=1", {"after": 0, "since_ms": 0, "tail": 1}),
        ("tail=10000", {"after": 0, "since_ms": 0, "tail": 10_000}),
        ("after=77", {"after": 77, "since_ms": 0, "tail": None}),
        ("since=1775556000000", {"after": 0, "since_ms": 1_775_556_000_000, "tail": None}),
        ("since=2026-04-07T10:00:00Z", {"after": 0, "since_ms": 1_775_556_000_000, "tail": None}),
        (
            "since=2026-04-07T12:00:00.250%2B02:00&tail=3",
            {"after": 0, "since_ms": 1_775_556_000_250, "tail": 3},
        ),
    ],
)
async def test_query_says_where_lines_begin(
    db: Database, asking: Asking, query: str, expected: dict[str, Any]
) -> None:
    await asking.page(await made(db, DeploymentStatus.READY), query)
    assert asking.runtime.asked[0] == {"kind": LogKind.RUNTIME, "limit": 10_000, **expected}


@pytest.mark.parametrize(
    ("goes_along", "since_ms"), [(False, 1_000), (True, 0)], ids=["stay", "go along"]
)
async def test_what_was_written_with_the_givers_variables_is_not_the_next_owners(
    db: Database, asking: Asking, goes_along: bool, since_ms: int
) -> None:
    found = await made(db, DeploymentStatus.READY)
    given = Transfer(
        id="offer", project_id=found.project_id, giver=BOB, taker=ALICE, with_purse=False,
        with_variables=goes_along, created_at_ms=1, not_after_ms=2_000, accepted_at_ms=1_000,
    )  # fmt: skip
    async with db.transaction(durable=True) as tx:
        await transfers.add(tx, given, max_kept=9)
    for query in ("after=0", "after=77", "kind=build&since=1970-01-01T00:00:00Z"):
        await asking.page(found, query)
    assert {each.get("since_ms", 0) for each in asking.runtime.asked} == {since_ms}


async def test_last_event_id_goes_before_the_query(db: Database, asking: Asking) -> None:
    found = await made(db, DeploymentStatus.READY)
    await asking.page(found, "tail=5&kind=build", headers={"last-event-id": "123"})
    assert asking.runtime.asked[0] == {
        "kind": LogKind.BUILD, "limit": 10_000, "after": 123, "since_ms": 0, "tail": None,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("kind=", "kind"),
        ("kind=Build", "kind"),
        ("follow=1", "follow"),
        ("tail=-1", "tail"),
        ("tail=", "tail"),
        ("after=-1", "after"),
        (f"after={2**63}", "after"),
        ("since=", "since"),
        ("since=2026-04-07", "since"),
        ("since=99999-01-01T00:00:00Z", "since"),
        ("since=" + "9" * 400, "since"),
        ("since=2026-04-07T10:00:00Z" + "0" * 40, "since"),
        ("since=%F0%9F%98%80", "since"),
    ],
)
async def test_bad_values_are_refused_by_name(
    db: Database, asking: Asking, query: str, field: str
) -> None:
    found = await made(db, DeploymentStatus.READY)
    with pytest.raises(InvalidField) as caught:
        await asking.page(found, query)
    assert caught.value.field == field
    assert asking.runtime.asked == []


@pytest.mark.parametrize("seen", ["x", "-1", "²", "9" * 19, "9" * 9_000])
async def test_bad_last_event_id_is_refused(db: Database, asking: Asking, seen: str) -> None:
    found = await made(db, DeploymentStatus.READY)
    with pytest.raises(InvalidField) as caught:
        await asking.page(found, headers={"last-event-id": seen})
    assert caught.value.field == "Last-Event-ID"


async def test_logs_are_the_owners_while_the_project_lives(db: Database, asking: Asking) -> None:
    found = await made(db, DeploymentStatus.READY)
    asking.wallet = BOB
    with pytest.raises(WrongWallet):
        await asking.page(found)
    asking.wallet = ALICE
    with pytest.raises(DeploymentNotFound):
        await asking.page(msgspec.structs.replace(found, project_id="another id"))
    deleting = await add_project(db, ALICE, "gone", ProjectStatus.DELETING)
    gone = await add_deployment(db, deleting, DeploymentStatus.READY)
    with pytest.raises(ProjectNotFound):
        await asking.page(gone)


@pytest.mark.parametrize(
    ("status", "runs", "over"),
    [
        (DeploymentStatus.QUEUED, False, ()),
        (DeploymentStatus.BUILDING, False, ()),
        (DeploymentStatus.DEPLOYING, True, ()),  # its release command may write
        (DeploymentStatus.READY, True, ("build",)),
        (DeploymentStatus.READY, False, ("build",)),  # it sleeps, or is suspended
        (DeploymentStatus.FAILED, False, ("build", "runtime")),
        (DeploymentStatus.SUPERSEDED, True, ("build",)),  # it is drained
        (DeploymentStatus.SUPERSEDED, False, ("build", "runtime")),
    ],
)
async def test_log_has_ended_when_nothing_more_can_come(
    db: Database, asking: Asking, status: DeploymentStatus, runs: bool, over: tuple[str, ...]
) -> None:
    found = await made(db, status)
    if runs:
        asking.runtime.apps[found.id] = cast("Instance", None)
    ended = {kind for kind in LogKind if (await asking.page(found, f"kind={kind}"))["ended"]}
    assert ended == set(over)


async def test_page_that_is_not_the_last_has_not_ended(db: Database, asking: Asking) -> None:
    found = await made(db, DeploymentStatus.FAILED)
    asking.runtime.logs[found.id, LogKind.BUILD] = "line\n" * 10_001
    first = await asking.page(found, "kind=build&after=0")
    assert (len(first["lines"]), first["next"], first["ended"]) == (10_000, "10000", False)
    second = await asking.page(found, f"kind=build&after={first['next']}")
    assert (len(second["lines"]), second["ended"]) == (1, True)


@pytest.mark.parametrize("kept", [True, False])
async def test_log_that_is_kept_no_longer_says_so(db: Database, asking: Asking, kept: bool) -> None:
    """Else an empty one looks as if nothing had been written."""
    project = await add_project(db)
    found = await add_deployment(db, project, DeploymentStatus.FAILED, is_kept=kept)
    page = await asking.page(found, "kind=build")
    assert (page["lines"], page["ended"], page["kept"]) == ([], True, kept)


async def test_head_is_never_a_stream(db: Database, asking: Asking) -> None:
    found = await made(db, DeploymentStatus.READY)
    assert isinstance(await asking.response(found, "follow=true"), LogStreamResponse)
    head = await asking.response(found, "follow=true", method="HEAD")
    assert not isinstance(head, LogStreamResponse)


async def test_readers_of_a_link_take_no_stream_of_their_wallet(
    db: Database, asking: Asking
) -> None:
    found = await add_deployment(db, await add_project(db), DeploymentStatus.READY, serving=True)
    reader = Person(ALICE, may_change=False)
    for _ in range(10):
        await asking.response(found, "follow=true", person=reader)
    with pytest.raises(TooManyStreams):
        await asking.response(found, "follow=true", person=reader)
    person = Person(ALICE)
    answer = await asking.response(found, "follow=true", person=person)
    assert isinstance(answer, LogStreamResponse)
