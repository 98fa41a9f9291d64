"""Evictions: a project is exported and its owner told, then deleted when the operator said."""

import asyncio
import io
import tarfile
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import msgspec
import pytest
from yard import Yard

from moorage.archive.project import Manifest
from moorage.engines.engine import LogLine, LogPage
from moorage.errors import DeployFailed, FailureCause
from moorage.hosting.keeping.evictions import AT_ONCE, DAY_MS, Evictions
from moorage.hosting.keeping.suspension import block_project
from moorage.operate.books import OpenBooks
from moorage.operate.customers.evictions import evict, keep
from moorage.records.deployment import LogKind, LogStream
from moorage.records.event import EventKind
from moorage.records.project import Project, ProjectStatus, Variables
from moorage.storage import events
from moorage.storage.apps import projects
from moorage.storage.database import Source
from moorage.storage.operation import evictions, exports
from moorage.storage.operation.evictions import Eviction, FailedTry
from support.books.records_fixture import ALICE, add_project, fund
from support.gateway.clock import MINUTE_MS
from support.gateway.fakes import APP_LIMITS, resources
from support.gateway.waiting import until

KEPT_MS = 30 * DAY_MS


@pytest.fixture
def evicting(yard: Yard) -> Evictions:
    return yard.services.evictions


async def status_of(yard: Yard, project: Project) -> ProjectStatus:
    found = await projects.by_id(yard.db, project.id)
    return found.status if found else ProjectStatus.DELETED


async def order(yard: Yard, project: Project, *, days: int = 1, with_export: bool = True) -> None:
    at_ms = yard.clock.now_ms() + days * DAY_MS
    async with yard.db.transaction(durable=True) as tx:
        await evictions.order(tx, Eviction(project.id, "closing", at_ms, with_export))


async def told(yard: Yard) -> list[dict[str, object]]:
    """What the owner was told of exports."""
    found = await events.of_wallet(yard.db, ALICE, after=0, limit=100)
    return [dict(each.data) for each in found if each.kind is EventKind.PROJECT_EXPORTED]


async def archive(yard: Yard, project: Project) -> Path:
    made = await exports.of_project(yard.db, project.id)
    assert made is not None
    return await yard.services.export_files.path(made)


def inside(path: Path) -> dict[str, bytes]:
    """The parts of an archive that are no tree, and the files of those that are."""
    found = dict[str, bytes]()
    with tarfile.open(path) as packed:
        for entry in packed:
            content = read(packed, entry)
            if not entry.name.endswith(".tar.gz"):
                found[entry.name] = content
                continue
            with tarfile.open(fileobj=io.BytesIO(content)) as tree:
                found |= {each.name: read(tree, each) for each in tree if each.isreg()}
    return found


def read(packed: tarfile.TarFile, entry: tarfile.TarInfo) -> bytes:
    file = packed.extractfile(entry)
    assert file is not None
    return file.read()


def manifest_of(path: Path) -> Manifest:
    return msgspec.json.decode(inside(path)["manifest.json"], type=Manifest)


async def test_owner_is_given_what_the_project_has_while_it_still_runs(
    yard: Yard, evicting: Evictions, project: Project
) -> None:
    serving = await yard.serving(project)
    sealed = yard.vault.seal(Variables(run={"TOKEN": "hush"}), project.id)
    async with yard.db.transaction(durable=True) as tx:
        await projects.configure(tx, project.id, variables=sealed, health_path="/")
        await projects.give_volume(tx, project.id)
    yard.runtime.logs[(serving.id, LogKind.RUNTIME)] = "hello\nagain"
    await order(yard, project)
    await evicting.tick()

    (event,) = await told(yard)
    found = inside(await archive(yard, project))
    assert found["files/without"] == b".pnpm-store .venv __pycache__ node_modules"
    assert found["data/kept.txt"] == b"kept"
    assert found["runtime.log"].endswith(b"again\n")
    manifest = manifest_of(await archive(yard, project))
    assert (manifest.variables, list(manifest.left_out)) == (["TOKEN"], ["variables"])
    assert b"hush" not in b"".join(found.values())
    assert str(event["path"]).startswith("/exports/")
    assert await status_of(yard, project) is not ProjectStatus.DELETED
    await evicting.tick()
    assert len(await told(yard)) == 1


async def test_clock_set_forward_evicts_nothing_and_removes_no_archive(
    yard: Yard, evicting: Evictions, project: Project
) -> None:
    await yard.serving(project)
    await order(yard, project, days=14)
    await evicting.tick()

    before = await projects.by_id(yard.db, project.id)

    yard.clock.step(365 * DAY_MS)
    await evicting.tick()
    assert await projects.by_id(yard.db, project.id) == before
    assert (await archive(yard, project)).exists()

    yard.clock.step(-365 * DAY_MS)
    yard.clock.advance(14 * DAY_MS)
    await evicting.tick()
    assert await status_of(yard, project) is ProjectStatus.DELETED
    assert (await archive(yard, project)).exists()


async def test_archive_is_made_anew_before_the_deletion_under_the_same_link(
    yard: Yard, evicting: Evictions, project: Project
) -> None:
    await yard.serving(project)
    await order(yard, project)
    await evicting.tick()
    yard.clock.advance(DAY_MS)
    await evicting.tick()
    assert await status_of(yard, project) is ProjectStatus.DELETED
    first, second = await told(yard)
    assert first["path"] == second["path"]
    assert len(yard.runtime.called("export_files")) == 2
    assert (await archive(yard, project)).exists()


async def test_archive_goes_when_its_days_are_over(
    yard: Yard, evicting: Evictions, project: Project
) -> None:
    await yard.serving(project)
    await order(yard, project, days=0)
    await evicting.tick()
    path = await archive(yard, project)
    yard.clock.advance(KEPT_MS - 1)
    await evicting.tick()
    assert path.exists()
    yard.clock.advance(1)
    await evicting.tick()
    assert not path.exists()
    assert await exports.of_project(yard.db, project.id) is None


async def test_archive_of_a_cancelled_eviction_goes_at_once(
    yard: Yard, evicting: Evictions, project: Project
) -> None:
    await yard.serving(project)
    await order(yard, project)
    await evicting.tick()
    path = await archive(yard, project)
    async with yard.db.transaction(durable=True) as tx:
        assert await evictions.cancel(tx, project.id)
    await evicting.tick()
    assert not path.exists()


async def test_project_is_not_deleted_before_an_archive_could_be_made(
    yard: Yard, evicting: Evictions, project: Project
) -> None:
    await yard.serving(project)
    await order(yard, project, days=0)
    yard.runtime.faults["export_files"] = [OSError("the disk does not answer")]
    await evicting.tick()
    assert await status_of(yard, project) is not ProjectStatus.DELETED
    assert await told(yard) == []
    yard.clock.advance(MINUTE_MS)
    await evicting.tick()
    assert await status_of(yard, project) is ProjectStatus.DELETED


async def suspended_because(yard: Yard, project: Project) -> str | None:
    found = await projects.by_id(yard.db, project.id)
    assert found is not None
    return found.blocked_reason


@pytest.mark.parametrize("ends", ["cancelled", "put off", "archived"])
async def test_project_that_is_due_serves_no_more_though_its_archive_fails(
    yard: Yard, evicting: Evictions, project: Project, ends: str
) -> None:
    await yard.serving(project)
    await order(yard, project)
    yard.runtime.faults["export_files"] = [OSError("too large") for _ in range(2)]
    await evicting.tick()
    assert await suspended_because(yard, project) is None  # it is not due yet
    yard.clock.advance(DAY_MS)
    await evicting.tick()
    assert await suspended_because(yard, project) == "It is due to be deleted: closing"
    await yard.services.suspension.enforce()
    assert await status_of(yard, project) is ProjectStatus.SUSPENDED
    assert "too large" in (await evictions.failures(yard.db))[project.id].why
    books = cast("OpenBooks", SimpleNamespace(db=yard.db, operator="op"))
    if ends == "cancelled":
        await keep(books, project.unique_name)
        assert await suspended_because(yard, project) is None
    elif ends == "put off":
        await evict(books, project.unique_name, reason="later", days=10_000)
        assert await suspended_because(yard, project) is None
    else:
        yard.clock.advance(DAY_MS)
        await evicting.tick()
        assert await status_of(yard, project) is ProjectStatus.DELETED


async def test_suspension_that_an_operator_ordered_outlasts_a_cancelled_eviction(
    yard: Yard, evicting: Evictions, project: Project
) -> None:
    await yard.serving(project)
    async with yard.db.transaction(durable=True) as tx:
        await block_project(tx, project, "spam", now_ms=yard.clock.now_ms())
    await order(yard, project, days=0)
    yard.runtime.faults["export_files"] = [OSError("too large")]
    await evicting.tick()
    await keep(cast("OpenBooks", SimpleNamespace(db=yard.db, operator="op")), project.unique_name)
    assert await suspended_because(yard, project) == "spam"


async def test_last_archive_that_fails_for_a_day_leaves_the_earlier_one(
    yard: Yard, evicting: Evictions, project: Project
) -> None:
    await yard.serving(project)
    await order(yard, project)
    await evicting.tick()
    before = inside(await archive(yard, project))
    yard.clock.advance(DAY_MS)
    yard.runtime.faults["export_files"] = [OSError("the disk does not answer") for _ in range(2)]
    await evicting.tick()
    assert await status_of(yard, project) is not ProjectStatus.DELETED
    yard.clock.advance(DAY_MS)
    await evicting.tick()
    assert await status_of(yard, project) is ProjectStatus.DELETED
    assert inside(await archive(yard, project)) == before


async def test_last_archive_is_tried_again_however_late_its_first_try_fails(
    yard: Yard, evicting: Evictions, project: Project
) -> None:
    """As when the gateway was off, and starts before what it asks."""
    await yard.serving(project)
    await order(yard, project)
    await evicting.tick()
    yard.clock.advance(7 * DAY_MS)
    yard.runtime.faults["export_files"] = [OSError("the cluster does not answer yet")]
    await evicting.tick()
    assert await status_of(yard, project) is not ProjectStatus.DELETED
    yard.clock.advance(MINUTE_MS)
    await evicting.tick()
    assert await status_of(yard, project) is ProjectStatus.DELETED
    assert len(await told(yard)) == 2


async def test_archive_that_is_older_than_the_volume_does_not_do(
    yard: Yard, evicting: Evictions, project: Project
) -> None:
    await yard.serving(project)
    await order(yard, project)
    await evicting.tick()
    async with yard.db.transaction(durable=True) as tx:
        await projects.give_volume(tx, project.id)
    yard.runtime.faults["read_volume"] = [OSError("the cluster does not answer")] * 2
    for _ in range(2):
        yard.clock.advance(2 * DAY_MS)
        await evicting.tick()
    assert await status_of(yard, project) is not ProjectStatus.DELETED
    yard.clock.advance(DAY_MS)
    await evicting.tick()
    assert await status_of(yard, project) is ProjectStatus.DELETED
    assert "data/kept.txt" in inside(await archive(yard, project))


async def test_archive_with_the_volume_does_when_the_last_one_fails_for_a_day(
    yard: Yard, evicting: Evictions, project: Project
) -> None:
    await yard.serving(project)
    async with yard.db.transaction(durable=True) as tx:
        await projects.give_volume(tx, project.id)
    await order(yard, project)
    await evicting.tick()
    yard.runtime.faults["read_volume"] = [OSError("the cluster does not answer")] * 2
    for _ in range(2):
        assert await status_of(yard, project) is not ProjectStatus.DELETED
        yard.clock.advance(2 * DAY_MS)
        await evicting.tick()
    assert await status_of(yard, project) is ProjectStatus.DELETED
    assert "data/kept.txt" in inside(await archive(yard, project))


async def test_order_that_is_put_off_gets_another_last_archive(
    yard: Yard, evicting: Evictions, project: Project
) -> None:
    await yard.serving(project)
    await order(yard, project, days=0)

    def put_off(method: str, subject: str) -> None:
        yard.runtime.on_call = lambda method, subject: None
        waiting.append(asyncio.create_task(order(yard, project, days=14)))

    waiting: list[asyncio.Task[None]] = []
    yard.runtime.on_call = put_off
    await evicting.tick()
    await asyncio.gather(*waiting)
    assert await status_of(yard, project) is not ProjectStatus.DELETED
    yard.clock.advance(14 * DAY_MS)
    await evicting.tick()
    assert await status_of(yard, project) is ProjectStatus.DELETED
    assert len(yard.runtime.called("export_files")) == 2
    made = await exports.of_project(yard.db, project.id)
    assert made is not None
    assert made.until_ms == yard.clock.now_ms() + KEPT_MS


async def test_archive_that_is_gone_as_after_a_restore_is_made_again(
    yard: Yard, evicting: Evictions, project: Project
) -> None:
    await yard.serving(project)
    await order(yard, project)
    await evicting.tick()
    (await archive(yard, project)).unlink()
    await evicting.tick()
    assert (await archive(yard, project)).exists()
    assert len(await told(yard)) == 2


async def test_archive_is_not_replaced_by_what_a_deletion_has_left(
    yard: Yard, evicting: Evictions, project: Project
) -> None:
    await yard.serving(project)
    await order(yard, project)
    await evicting.tick()
    before = inside(await archive(yard, project))
    yard.runtime.faults["remove"] = [OSError("the disk does not answer")]
    with pytest.raises(OSError, match="does not answer"):
        await yard.services.deletion.delete(project)  # as its owner may
    yard.clock.advance(DAY_MS)
    await evicting.tick()
    assert await status_of(yard, project) is ProjectStatus.DELETED
    assert inside(await archive(yard, project)) == before


async def test_log_that_grows_as_fast_as_it_is_read_holds_up_no_archive(
    yard: Yard, evicting: Evictions, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    await yard.serving(project)
    lines = tuple(LogLine(0, LogStream.OUT, "x" * 1000, 0) for _ in range(1000))

    async def read_log(*args: object, after: int, **others: object) -> LogPage:
        return LogPage(lines=lines, next=after + 1)

    monkeypatch.setattr(yard.runtime, "read_log", read_log)
    await order(yard, project)
    async with asyncio.timeout(60):
        await evicting.tick()
    assert await told(yard)


async def test_what_an_engine_cannot_give_is_named(
    yard: Yard, evicting: Evictions, project: Project
) -> None:
    await yard.serving(project)
    await order(yard, project)
    failed = DeployFailed(FailureCause.INTERRUPTED, "it is an image")
    yard.runtime.faults["export_files"] = [failed]
    await evicting.tick()
    assert manifest_of(await archive(yard, project)).left_out == {"files": "it is an image"}


async def test_volume_that_can_not_be_exported_is_not_deleted_unless_the_operator_says_so(
    yard: Yard, evicting: Evictions, project: Project
) -> None:
    """What its app has stored is nowhere else."""
    await yard.serving(project)
    async with yard.db.transaction(durable=True) as tx:
        await projects.give_volume(tx, project.id)
    failed = DeployFailed(FailureCause.OUT_OF_DISK, "its owner may not read it")
    yard.runtime.faults["read_volume"] = [failed] * 20
    await order(yard, project, days=0)
    for _ in range(10):
        await evicting.tick()
        yard.clock.advance(DAY_MS)
    assert await status_of(yard, project) is not ProjectStatus.DELETED
    assert await told(yard) == []
    await order(yard, project, days=0, with_export=False)
    await evicting.tick()
    assert await status_of(yard, project) is ProjectStatus.DELETED


async def test_project_is_deleted_without_an_archive_if_the_operator_says_so(
    yard: Yard, evicting: Evictions, project: Project
) -> None:
    await yard.serving(project)
    await order(yard, project, days=0, with_export=False)
    await evicting.tick()
    assert await status_of(yard, project) is ProjectStatus.DELETED
    assert await told(yard) == []


async def test_evicted_project_is_deleted_when_it_is_due_though_it_runs_and_is_paid(
    yard: Yard, evicting: Evictions, project: Project
) -> None:
    await fund(yard.db, project.wallet, 5_000_000)
    serving = await yard.serving(project)
    due_ms = yard.clock.now_ms() + DAY_MS
    async with yard.db.transaction(durable=True) as tx:
        await evictions.order(tx, Eviction(project.id, "this gateway closes", due_ms))
    yard.clock.advance(DAY_MS - 1)
    await evicting.tick()
    assert await status_of(yard, project) is not ProjectStatus.DELETED
    yard.clock.advance(1)
    await evicting.tick()
    assert await status_of(yard, project) is ProjectStatus.DELETED
    assert serving.id not in yard.runtime.built
    await evicting.tick()  # and nothing is left to do


async def test_cancelled_eviction_deletes_nothing(
    yard: Yard, evicting: Evictions, project: Project
) -> None:
    await yard.serving(project)
    async with yard.db.transaction(durable=True) as tx:
        await evictions.order(tx, Eviction(project.id, "a mistake", yard.clock.now_ms()))
        assert await evictions.cancel(tx, project.id)
    await evicting.tick()
    assert await status_of(yard, project) is not ProjectStatus.DELETED


async def test_eviction_cancelled_while_another_is_carried_out_deletes_nothing(
    yard: Yard, evicting: Evictions, project: Project
) -> None:
    other = await add_project(yard.db, ALICE, "other")
    kept = await add_project(yard.db, ALICE, "kept")
    now_ms = yard.clock.now_ms()
    async with yard.db.transaction(durable=True) as tx:
        await evictions.order(tx, Eviction(project.id, "first", now_ms - 2))
        await evictions.order(tx, Eviction(other.id, "second", now_ms - 1))
        await evictions.order(tx, Eviction(kept.id, "a mistake", now_ms))

    async def begun() -> bool:
        found = [await status_of(yard, each) for each in (project, other)]
        return found == [ProjectStatus.DELETING] * AT_ONCE

    async with yard.apps.held(project.id), yard.apps.held(other.id):
        work = asyncio.create_task(evicting.tick())
        await until(begun)
        async with yard.db.transaction(durable=True) as tx:
            assert await evictions.cancel(tx, kept.id)
    await work
    assert await status_of(yard, project) is ProjectStatus.DELETED
    assert await status_of(yard, kept) is ProjectStatus.ACTIVE


async def test_eviction_that_fails_holds_up_no_other(
    yard: Yard, evicting: Evictions, project: Project
) -> None:
    other = await add_project(yard.db, ALICE, "other")
    now_ms = yard.clock.now_ms()
    async with yard.db.transaction(durable=True) as tx:
        await evictions.order(tx, Eviction(project.id, "first", now_ms - 1))
        await evictions.order(tx, Eviction(other.id, "second", now_ms))
    await yard.serving(project)
    yard.runtime.faults["remove"] = [OSError("the disk does not answer")]
    await evicting.tick()
    assert await status_of(yard, other) is ProjectStatus.DELETED
    yard.clock.advance(MINUTE_MS)
    await evicting.tick()
    assert await status_of(yard, project) is ProjectStatus.DELETED


async def test_one_that_takes_long_holds_up_no_other(
    yard: Yard, evicting: Evictions, project: Project
) -> None:
    huge = await add_project(yard.db, ALICE, "huge")
    now_ms = yard.clock.now_ms()
    async with yard.db.transaction(durable=True) as tx:
        await evictions.order(tx, Eviction(huge.id, "first", now_ms - 1))
        await evictions.order(tx, Eviction(project.id, "second", now_ms))

    async def gone() -> bool:
        return await status_of(yard, project) is ProjectStatus.DELETED

    async with yard.apps.held(huge.id):
        work = asyncio.create_task(evicting.tick())
        await until(gone)
        assert await status_of(yard, huge) is ProjectStatus.DELETING
    await work
    assert await status_of(yard, huge) is ProjectStatus.DELETED


async def test_those_that_are_due_first_are_worked_at_first_and_no_more_than_there_is_room_for(
    yard: Yard, evicting: Evictions
) -> None:
    several = [await add_project(yard.db, ALICE, f"app-{place}") for place in range(5)]
    now_ms = yard.clock.now_ms()
    async with yard.db.transaction(durable=True) as tx:
        for place, each in enumerate(several):
            await evictions.order(tx, Eviction(each.id, "closing", now_ms - place))
    begun: set[str] = set()

    async def lanes_are_full() -> bool:
        states = {each.id: await status_of(yard, each) for each in several}
        begun.update(each for each in states if states[each] is not ProjectStatus.ACTIVE)
        return list(states.values()).count(ProjectStatus.DELETING) == AT_ONCE

    async with yard.apps.held(several[-1].id), yard.apps.held(several[-2].id):
        work = asyncio.create_task(evicting.tick())
        await until(lanes_are_full)
    await work
    assert begun == {several[-1].id, several[-2].id}
    assert {await status_of(yard, each) for each in several} == {ProjectStatus.DELETED}


async def test_orders_are_read_a_few_times_however_many_there_are(
    yard: Yard, evicting: Evictions, monkeypatch: pytest.MonkeyPatch
) -> None:
    several = [await add_project(yard.db, ALICE, f"app-{place}") for place in range(20)]
    for each in several:
        await order(yard, each, with_export=False)
    read, reads = evictions.ordered, []

    async def counted(source: Source) -> list[Eviction]:
        reads.append(await read(source))
        return reads[-1]

    monkeypatch.setattr(evictions, "ordered", counted)
    await evicting.tick()
    assert [len(each) for each in reads] == [20, 20]  # at first, and whether there are others


async def test_one_that_fails_is_tried_later_each_time_but_a_new_order_at_once(
    yard: Yard, evicting: Evictions, project: Project
) -> None:
    await yard.serving(project)
    await order(yard, project, days=0)
    yard.runtime.faults["export_files"] = [OSError("the disk does not answer") for _ in range(9)]
    tried: list[int] = []
    for second in range(0, 600, 10):
        await evicting.tick()
        if len(yard.runtime.called("export_files")) > len(tried):
            tried.append(second)
        yard.clock.advance(10_000)
    assert tried == [0, 30, 90, 210, 450]
    await order(yard, project, days=0, with_export=False)
    await evicting.tick()
    assert await status_of(yard, project) is ProjectStatus.DELETED


async def test_why_an_order_waits_is_stored_with_it_until_a_try_goes_well(
    yard: Yard, evicting: Evictions, project: Project
) -> None:
    await yard.serving(project)
    await order(yard, project)
    yard.runtime.faults["export_files"] = [OSError("the cluster is away"), OSError("still away")]
    at_ms = yard.clock.now_ms()
    await evicting.tick()
    assert await evictions.failures(yard.db) == {
        project.id: FailedTry(at_ms, "the cluster is away")
    }
    yard.clock.advance(MINUTE_MS)
    await evicting.tick()
    assert await evictions.failures(yard.db) == {
        project.id: FailedTry(at_ms + MINUTE_MS, "still away")
    }
    yard.clock.advance(2 * MINUTE_MS)
    await evicting.tick()
    assert await evictions.failures(yard.db) == {}
    assert await told(yard)


async def test_failure_of_before_a_start_is_forgotten_once_a_try_goes_well(
    yard: Yard, evicting: Evictions, project: Project
) -> None:
    """Another gateway may have had the turn, or this one before it was restarted."""
    await yard.serving(project)
    ordered = Eviction(project.id, "closing", yard.clock.now_ms() + DAY_MS)
    async with yard.db.transaction(durable=True) as tx:
        await evictions.order(tx, ordered)
        await evictions.note_failure(tx, ordered, FailedTry(yard.clock.now_ms(), "no room"))
    await evicting.tick()
    assert await evictions.failures(yard.db) == {}


@pytest.mark.parametrize(
    ("error", "kept"),
    [
        (OSError("a file \udcff of no encoding"), "a file ? of no encoding"),
        (OSError("https://me:hush@registry.example/v2"), "https://[redacted]@registry.example/v2"),
        (OSError("x" * 5000), "x" * 1000),
        (KeyError("volume"), "KeyError('volume')"),
        (TimeoutError(), "TimeoutError()"),
    ],
    ids=["no UTF-8", "secret", "long", "unexpected", "wordless"],
)
async def test_any_failure_can_be_stored_and_shown(
    yard: Yard, evicting: Evictions, project: Project, error: Exception, kept: str
) -> None:
    await yard.serving(project)
    await order(yard, project)
    yard.runtime.faults["export_files"] = [error]
    await evicting.tick()
    assert (await evictions.failures(yard.db))[project.id].why == kept


async def test_disk_without_room_for_an_archive_is_told_with_what_it_needs(
    yard: Yard, evicting: Evictions, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    await yard.serving(project)
    await order(yard, project, days=0)
    monkeypatch.setattr(yard.services.export_files, "free_bytes", lambda: 4096)
    await evicting.tick()
    assert await status_of(yard, project) is not ProjectStatus.DELETED
    assert "4,096 are free" in (await evictions.failures(yard.db))[project.id].why


async def test_archive_needs_room_for_what_the_disk_holds_and_not_for_what_it_may_hold(
    yard: Yard, evicting: Evictions, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    deployment = await yard.serving(project)
    await order(yard, project, days=0)
    yard.runtime.measured = resources(
        free_bytes=4096, growth={deployment.id: APP_LIMITS.disk_bytes - 1024}
    )
    monkeypatch.setattr(yard.services.export_files, "free_bytes", lambda: 2047)
    await evicting.tick()
    assert "it may need 2,048 bytes" in (await evictions.failures(yard.db))[project.id].why
    monkeypatch.setattr(yard.services.export_files, "free_bytes", lambda: 2048)
    yard.clock.advance(3_600_000)
    await evicting.tick()
    assert await status_of(yard, project) is ProjectStatus.DELETED
