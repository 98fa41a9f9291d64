"""Two engines of one gateway: each deployment's calls reach the one that has it."""

import asyncio
from pathlib import Path

import pytest

from moorage.engines.engine import AppExit, BuildSpec, Incident, IncidentKind, InstanceSpec
from moorage.engines.pair import EnginePair
from moorage.errors import ClusterUnavailable, DeployFailed
from support.books.records_fixture import PLAN
from support.gateway.fakes import APP_LIMITS, FakeRuntime, resources

OLD, NEW = "old-one", "new-one"


def spec_of(deployment_id: str, source: Path) -> BuildSpec:
    return BuildSpec(
        deployment_id=deployment_id,
        source=source,
        plan=PLAN,
        limits=APP_LIMITS,
        timeout_seconds=1,
    )


@pytest.fixture
def own() -> FakeRuntime:
    return FakeRuntime()


@pytest.fixture
async def leaving(tmp_path: Path) -> FakeRuntime:
    engine = FakeRuntime()
    await engine.build(spec_of(OLD, tmp_path))
    engine.calls.clear()
    return engine


@pytest.fixture
def pair(own: FakeRuntime, leaving: FakeRuntime) -> EnginePair:
    return EnginePair(own=own, leaving=leaving, shares_volumes=True)


async def start(pair: EnginePair, deployment_id: str, volume: str | None = None) -> None:
    spec = InstanceSpec(deployment_id=deployment_id, plan=PLAN, limits=APP_LIMITS, volume=volume)
    await pair.start(spec, timeout_seconds=1)


async def test_builds_go_to_the_gateways_own_engine(
    pair: EnginePair, own: FakeRuntime, leaving: FakeRuntime, tmp_path: Path
) -> None:
    await pair.build(spec_of(NEW, tmp_path))
    assert (set(own.built), set(leaving.built)) == ({NEW}, {OLD})
    assert await pair.known() == {NEW, OLD}


@pytest.mark.parametrize("call", ["stop", "inspect", "connections"])
async def test_calls_for_a_deployment_reach_the_engine_that_has_it(
    pair: EnginePair, own: FakeRuntime, leaving: FakeRuntime, tmp_path: Path, call: str
) -> None:
    await pair.build(spec_of(NEW, tmp_path))
    for deployment_id in (OLD, NEW):
        await start(pair, deployment_id)
        await getattr(pair, call)(deployment_id)
    for engine, deployment_id in ((leaving, OLD), (own, NEW)):
        assert engine.called("start") == [deployment_id]
        assert engine.called(call) == [deployment_id]


async def test_copies_stay_on_the_engine_of_their_origin(
    pair: EnginePair, own: FakeRuntime, leaving: FakeRuntime
) -> None:
    await pair.copy(OLD, "copied")
    assert (set(own.built), set(leaving.built)) == (set(), {OLD, "copied"})


async def test_files_leave_the_engine_that_has_them(
    pair: EnginePair, leaving: FakeRuntime, tmp_path: Path
) -> None:
    await pair.export_files(OLD, tmp_path / "files", without={"node_modules"})
    assert (tmp_path / "files" / "without").read_text() == "node_modules"
    assert leaving.called("export_files") == [OLD]


async def test_incidents_of_both_engines_are_told_each_once(
    pair: EnginePair, own: FakeRuntime, leaving: FakeRuntime, tmp_path: Path
) -> None:
    await pair.build(spec_of(NEW, tmp_path))
    await start(pair, OLD)
    await start(pair, NEW)
    waiting = asyncio.create_task(pair.next_incident())
    await asyncio.sleep(0)
    waiting.cancel()  # loses nothing
    await asyncio.gather(waiting, return_exceptions=True)
    own.die(NEW)
    leaving.die(OLD)
    told = {await pair.next_incident(), await pair.next_incident()}
    assert told == {Incident(name, IncidentKind.ENDED) for name in (OLD, NEW)}
    assert (await pair.inspect(OLD)).exit == AppExit(exit_code=1, out_of_memory=False)
    await pair.close(stop_apps=True)


async def test_what_both_engines_have_of_a_volume_counts_and_is_removed_once(
    pair: EnginePair, own: FakeRuntime, leaving: FakeRuntime
) -> None:
    own.measured = resources(free_bytes=7, growth={NEW: 1}, volume_growth={"shared": 5})
    leaving.measured = resources(free_bytes=9, growth={OLD: 2}, volume_growth={"shared": 5})
    found = await pair.resources()
    assert (found.free_bytes, dict(found.growth)) == (7, {NEW: 1, OLD: 2})
    assert dict(found.volume_growth) == {"shared": 5}

    own.kept_volumes, leaving.kept_volumes = {"shared"}, {"shared", "left"}
    assert await pair.volumes() == {"shared", "left"}
    await pair.delete_volume("shared")
    await pair.delete_volume("left")
    assert own.called("delete_volume") == ["shared"]
    assert leaving.called("delete_volume") == ["left"]


async def test_volume_that_the_other_engine_alone_has_is_never_begun_anew(
    own: FakeRuntime, leaving: FakeRuntime, tmp_path: Path
) -> None:
    pair = EnginePair(own=own, leaving=leaving, shares_volumes=False)
    await pair.build(spec_of(NEW, tmp_path))
    await start(pair, OLD, volume="left")
    with pytest.raises(DeployFailed, match="volume"):
        await start(pair, NEW, volume="left")
    assert own.kept_volumes == set()
    await start(pair, NEW, volume="fresh")
    assert own.kept_volumes == {"fresh"}
    with pytest.raises(DeployFailed, match="volume"):
        await start(pair, OLD, volume="fresh")


async def test_no_app_is_started_where_its_volume_is_copied_from(
    own: FakeRuntime, leaving: FakeRuntime, tmp_path: Path
) -> None:
    pair = EnginePair(own=own, leaving=leaving, shares_volumes=False)
    await pair.build(spec_of(NEW, tmp_path))
    own.kept_volumes, leaving.kept_volumes = {"shop"}, {"shop"}
    with pair.closed("shop", leaving):
        with pytest.raises(DeployFailed, match="volume"):
            await start(pair, OLD, volume="shop")
        await start(pair, NEW, volume="shop")
    assert leaving.called("start") == []
    await start(pair, OLD, volume="shop")


async def test_of_two_copies_of_a_volume_none_is_exported_and_both_are_removed(
    own: FakeRuntime, leaving: FakeRuntime, tmp_path: Path
) -> None:
    pair = EnginePair(own=own, leaving=leaving, shares_volumes=False)
    own.kept_volumes, leaving.kept_volumes = {"shop"}, {"shop"}
    with pytest.raises(ClusterUnavailable):
        await pair.read_volume("shop", tmp_path / "archive")
    await pair.delete_volume("shop")
    assert await pair.volumes() == set()


@pytest.mark.parametrize("runs", [True, False])
async def test_engine_that_is_left_is_taken_down_once_no_app_runs_on_it(
    pair: EnginePair, leaving: FakeRuntime, runs: bool
) -> None:
    closed: list[bool] = []

    async def close(*, stop_apps: bool) -> None:
        closed.append(stop_apps)

    leaving.close = close  # type: ignore[method-assign]
    if runs:
        await start(pair, OLD)
    await pair.close(stop_apps=False)
    assert closed == [not runs]


async def test_engine_that_is_left_is_closed_when_the_other_can_not_be(
    pair: EnginePair, own: FakeRuntime, leaving: FakeRuntime
) -> None:
    closed: list[bool] = []

    async def fails(*, stop_apps: bool) -> None:
        raise OSError("no Docker")

    async def close(*, stop_apps: bool) -> None:
        closed.append(stop_apps)

    own.close, leaving.close = fails, close  # type: ignore[method-assign]
    with pytest.raises(OSError, match="no Docker"):
        await pair.close(stop_apps=True)
    assert closed == [True]


async def test_engine_that_was_open_is_closed_when_the_other_can_not_be_opened(
    pair: EnginePair, own: FakeRuntime, leaving: FakeRuntime
) -> None:
    closed: list[bool] = []

    async def fails() -> str:
        raise OSError("no Docker")

    async def close(*, stop_apps: bool) -> None:
        closed.append(stop_apps)

    own.open, leaving.close = fails, close  # type: ignore[method-assign]
    with pytest.raises(OSError, match="no Docker"):
        await pair.open()
    assert closed == [False]
