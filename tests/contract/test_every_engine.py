"""What every engine does, those that tests put in place of a real one included."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest

from moorage.engines.engine import (
    Engine,
    Incident,
    IncidentKind,
    InstanceSpec,
    Keep,
    log_tail,
)
from moorage.errors import DeployFailed, FailureCause
from moorage.records.deployment import LogKind, LogStream
from support.engines.file_engine import FileEngine
from support.engines.small_apps import LIMITS, MIB, build, build_and_start, plan, start
from support.gateway.fakes import FakeRuntime


@pytest.fixture
def fake() -> Engine:
    return FakeRuntime()


@pytest.fixture
async def files(tmp_path: Path) -> AsyncIterator[Engine]:
    engine = FileEngine(tmp_path / "engine", tmp_path / "apps.sock")
    await engine.open()
    yield engine
    await engine.close(stop_apps=True)


@pytest.fixture(params=["sandbox", "docker", "kubernetes", "fake", "files"])
def engine(request: pytest.FixtureRequest) -> Engine:
    return cast("Engine", request.getfixturevalue(request.param))


async def test_build_starts_nothing(engine: Engine, source: Path) -> None:
    await build(engine, source, plan())
    assert await engine.known() == {"first"}
    assert await engine.running() == {}
    assert (await engine.inspect("first")).instance is None
    assert await engine.connections("first") == 0
    assert (await engine.inspect("first")).exit is None


async def test_started_app_is_told_alike_by_all(engine: Engine, source: Path) -> None:
    instance = await build_and_start(engine, source, plan())
    assert (instance.deployment_id, instance.port) == ("first", 3000)
    assert await engine.running() == {"first": instance}
    assert (await engine.inspect("first")).instance == instance
    assert set(await engine.usage()) <= {"first"}
    assert (await engine.inspect("first")).exit is None


async def test_start_again_is_the_same_app(engine: Engine, source: Path) -> None:
    await build(engine, source, plan())
    instances = await asyncio.gather(*(start(engine, plan()) for _ in range(3)))
    assert instances[0] == instances[1] == instances[2]


async def test_what_was_not_built_can_neither_start_nor_be_copied(engine: Engine) -> None:
    with pytest.raises(DeployFailed) as started:
        await start(engine, plan())
    with pytest.raises(DeployFailed) as copied:
        await engine.copy("first", "second")
    assert {started.value.cause, copied.value.cause} == {FailureCause.INTERRUPTED}


async def test_stopped_app_can_be_started_again(engine: Engine, source: Path) -> None:
    instance = await build_and_start(engine, source, plan())
    for _ in range(2):  # the second finds nothing to do
        await engine.stop("first")
    assert await engine.running() == {}
    assert await engine.usage() == {}
    assert await engine.known() == {"first"}
    again = await start(engine, plan())
    assert (again.deployment_id, again.port) == (instance.deployment_id, instance.port)
    assert await engine.running() == {"first": again}  # its address may be another


async def test_copy_starts_beside_its_origin(engine: Engine, source: Path) -> None:
    await build_and_start(engine, source, plan())
    await engine.copy("first", "second")
    assert await engine.known() == {"first", "second"}
    await start(engine, plan(), deployment_id="second")
    assert set(await engine.running()) == {"first", "second"}


async def test_discarded_deployment_is_known_and_starts_no_more(
    engine: Engine, source: Path
) -> None:
    await build_and_start(engine, source, plan())
    await engine.stop("first", keep=Keep.LOGS)
    assert await engine.running() == {}
    assert await engine.known() == {"first"}  # by its logs
    with pytest.raises(DeployFailed):
        await start(engine, plan())
    await engine.stop("first", keep=Keep.NOTHING)
    assert await engine.known() == set()


async def test_calls_for_what_is_not_there_do_nothing(engine: Engine) -> None:
    await engine.stop("none")
    await engine.stop("none", keep=Keep.LOGS)
    await engine.stop("none", keep=Keep.NOTHING)
    await engine.note("none", "is left out")
    assert await log_tail(engine, "none", LogKind.RUNTIME) == ""
    assert (await engine.read_log("none", LogKind.RUNTIME)).lines == ()
    assert await engine.known() == set()


async def test_log_is_read_on_behind_a_cursor(engine: Engine, source: Path) -> None:
    await build_and_start(engine, source, plan())
    behind = (await engine.read_log("first", LogKind.RUNTIME)).next
    for text in ("one", "two"):
        await engine.note("first", text)
    page = await engine.read_log("first", LogKind.RUNTIME, after=behind, limit=1)
    assert [(line.stream, line.text) for line in page.lines] == [(LogStream.GATEWAY, "one")]
    assert page.next == page.lines[-1].cursor
    rest = await engine.read_log("first", LogKind.RUNTIME, after=page.next)
    assert [line.text for line in rest.lines] == ["two"]
    last = await engine.read_log("first", LogKind.RUNTIME, tail=1)
    assert [line.text for line in last.lines] == ["two"]


async def test_volume_outlives_its_deployment(engine: Engine, source: Path) -> None:
    await build(engine, source, plan())
    limits = replace(LIMITS, volume_bytes=32 * MIB)
    spec = InstanceSpec(deployment_id="first", plan=plan(), limits=limits, volume="data")
    await engine.start(spec, timeout_seconds=30)
    await engine.stop("first", keep=Keep.NOTHING)
    assert await engine.volumes() == {"data"}
    await engine.delete_volume("data", unless_used=True)
    assert await engine.volumes() <= {"data"}
    await engine.delete_volume("data")
    assert await engine.volumes() == set()


async def test_volume_that_is_gone_is_never_replaced_by_an_empty_one(
    engine: Engine, source: Path
) -> None:
    await build(engine, source, plan())
    limits = replace(LIMITS, volume_bytes=32 * MIB)
    made = InstanceSpec(deployment_id="first", plan=plan(), limits=limits, volume="data")
    expected = replace(made, makes_volume=False)
    for spec in (made, expected):  # the second finds it
        await engine.start(spec, timeout_seconds=30)
        await engine.stop("first")
    await engine.delete_volume("data")
    with pytest.raises(DeployFailed, match="volume is gone"):
        await engine.start(expected, timeout_seconds=30)
    async with asyncio.timeout(60):
        assert await engine.next_incident() == Incident("first", IncidentKind.VOLUME_LOST)
    assert await engine.volumes() == set()
    await engine.start(made, timeout_seconds=30)
    assert await engine.volumes() == {"data"}
