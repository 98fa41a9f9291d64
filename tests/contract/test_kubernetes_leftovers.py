"""What the Kubernetes engine removes of what a gateway that was lost has left."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from moorage.engines.engine import BuildSpec, Keep
from moorage.engines.kind import ClusterOptions
from moorage.engines.kubernetes.cluster import client
from moorage.engines.kubernetes.cluster.client import Cluster as Connection
from moorage.engines.kubernetes.cluster.client import Refused, read_configuration
from moorage.engines.kubernetes.cluster.shared import Log
from moorage.engines.kubernetes.objects.labels import app_name, wallet_hash, wallet_namespace
from moorage.errors import ClusterUnavailable
from support.engines.fake_kubernetes.cluster import Cluster
from support.engines.fake_kubernetes.faults import INTERNAL
from support.engines.fake_kubernetes.resources import NAMESPACES, Resource
from support.engines.kubernetes_engine_fixture import (
    CopyingBuilder,
    cluster_options,
    copying_builder,
    make_engine,
    opened_engine,
)
from support.engines.small_apps import build, build_and_start, plan, start
from support.gateway.waiting import until

pytestmark = pytest.mark.root

OWNER, OTHER = "0x" + "ab" * 20, "0x" + "cd" * 20
WALLET, NOBODYS = wallet_hash(OWNER), wallet_hash("")


@pytest.fixture(autouse=True)
def mended(fake_cluster: Cluster) -> None:
    fake_cluster.mend()


@pytest.fixture
def options(fake_cluster: Cluster) -> ClusterOptions:
    return cluster_options(fake_cluster)


@dataclass
class CutOff(CopyingBuilder):
    """Stores an image, and never comes to an end."""

    begun: asyncio.Event = field(default_factory=asyncio.Event)

    async def build(self, spec: BuildSpec, log: Log) -> str:
        await super().build(spec, log)
        self.begun.set()
        await asyncio.Event().wait()
        raise AssertionError


@asynccontextmanager
async def connected(options: ClusterOptions) -> AsyncIterator[Connection]:
    connection = Connection(read_configuration(options.config))
    try:
        yield connection
    finally:
        await connection.close()


def named(cluster: Cluster, resource: Resource, beginning: str) -> list[str]:
    names = [it["metadata"]["name"] for it in cluster.objects(resource)]
    return [it for it in names if it.startswith(beginning)]


async def test_image_without_a_record_is_removed_and_no_other(
    fake_cluster: Cluster, options: ClusterOptions, source: Path, tmp_path: Path
) -> None:
    """Also where another gateway has built it a moment ago, and no watch has told so."""
    images = copying_builder(fake_cluster)
    former = make_engine(fake_cluster, tmp_path / "one", options=options, builder=images)
    leader = make_engine(
        fake_cluster, tmp_path / "two", options=options, builder=images, upkeep_seconds=0.05
    )
    async with opened_engine(former):
        await build(former, source, plan(), owner=OWNER)
        async with opened_engine(leader):
            fake_cluster.freeze_watches()
            await former.copy("first", "second")
            images.images.add((WALLET, "third"))  # it is looked at after the second
            await until(lambda: (WALLET, "third") not in images.images)
            assert images.images == {(WALLET, "first"), (WALLET, "second")}


@dataclass
class Unreadable(CopyingBuilder):
    """Fails once, in a way that nobody has thought of."""

    fails: bool = True

    async def stored(self, wallet: str) -> set[str]:
        if self.fails:
            self.fails = False
            raise KeyError("tags")
        return await super().stored(wallet)


async def test_leftovers_are_removed_after_whatever_went_wrong_before(
    fake_cluster: Cluster, options: ClusterOptions, source: Path, tmp_path: Path
) -> None:
    images = Unreadable(fake_cluster, fake_cluster.directory / "built")
    leader = make_engine(
        fake_cluster, tmp_path / "one", options=options, builder=images, upkeep_seconds=0.05
    )
    async with opened_engine(leader):
        await build(leader, source, plan(), owner=OWNER)
        images.images.add((WALLET, "left"))
        await until(lambda: images.images == {(WALLET, "first")})
        assert not images.fails


@pytest.mark.parametrize("keep", [Keep.LOGS, Keep.NOTHING])
async def test_image_of_a_lost_gateway_goes_with_its_deployment(
    keep: Keep, fake_cluster: Cluster, options: ClusterOptions, source: Path, tmp_path: Path
) -> None:
    images = CutOff(fake_cluster, fake_cluster.directory / "built")
    lost = make_engine(fake_cluster, tmp_path / "one", options=options, builder=images)
    leader = make_engine(fake_cluster, tmp_path / "two", options=options, builder=images)
    async with opened_engine(lost):
        building = asyncio.create_task(build(lost, source, plan(), owner=OWNER))
        await images.begun.wait()
        async with opened_engine(leader):
            assert images.images == {(WALLET, "first")}
            await leader.stop("first", keep=keep)
            assert images.images == set()
        building.cancel()
        with suppress(asyncio.CancelledError, Refused):  # what it would write to may be gone
            await building


async def test_build_that_another_gateway_began_anew_is_not_failed_by_the_one_before(
    fake_cluster: Cluster, options: ClusterOptions, source: Path, tmp_path: Path
) -> None:
    images = CutOff(fake_cluster, fake_cluster.directory / "built")
    former = make_engine(fake_cluster, tmp_path / "one", options=options, builder=images)
    leader = make_engine(fake_cluster, tmp_path / "two", options=options)
    async with opened_engine(former):
        building = asyncio.create_task(build(former, source, plan(), owner=OWNER))
        await images.begun.wait()
        async with opened_engine(leader):
            await build(leader, source, plan(), owner=OWNER)
            building.cancel()
            with suppress(asyncio.CancelledError):
                await building
            await leader.copy("first", "second")
            await leader.stop("second", keep=Keep.NOTHING)


@dataclass
class Turn:
    """Whether a gateway still keeps the apps."""

    is_ours: bool = True


async def test_leader_that_lost_its_turn_changes_nothing_more(
    fake_cluster: Cluster, options: ClusterOptions, source: Path, tmp_path: Path
) -> None:
    turn, images = Turn(), copying_builder(fake_cluster)
    former = make_engine(
        fake_cluster,
        tmp_path / "one",
        options=options,
        builder=images,
        keeps=lambda: turn.is_ours,
        upkeep_seconds=0.05,
    )
    leader = make_engine(fake_cluster, tmp_path / "two", options=options, builder=images)
    async with opened_engine(leader):
        await former.open()
        await build_and_start(former, source, plan())
        turn.is_ours = False
        images.images.add((NOBODYS, "of-the-next"))  # stored, and its record is on its way
        for keep in Keep:
            with pytest.raises(ClusterUnavailable):
                await former.stop("first", keep=keep)
        with pytest.raises(ClusterUnavailable):
            await build(former, source, plan(), deployment_id="late")
        with pytest.raises(ClusterUnavailable):
            await former.copy("first", "late")
        await former.close(stop_apps=False)
        assert images.images == {(NOBODYS, "first"), (NOBODYS, "of-the-next")}
        assert await leader.known() == {"first"}
        assert (await leader.inspect("first")).instance is not None


async def test_late_scaling_leaves_what_the_next_leader_has_started_alone(
    fake_cluster: Cluster, options: ClusterOptions, source: Path, tmp_path: Path
) -> None:
    namespace = wallet_namespace(options.prefix, "")
    leader = make_engine(fake_cluster, tmp_path / "one", options=options)
    async with opened_engine(leader), connected(options) as late:
        await build_and_start(leader, source, plan())
        seen = await late.get(client.DEPLOYMENTS, app_name("first"), namespace=namespace)
        await leader.stop("first")
        await start(leader, plan())
        with pytest.raises(Refused):
            await late.scale(seen, replicas=0)
        assert (await leader.inspect("first")).instance is not None


async def test_namespace_that_has_changed_since_it_was_seen_stays(
    fake_cluster: Cluster, options: ClusterOptions, source: Path, tmp_path: Path
) -> None:
    name = wallet_namespace(options.prefix, OWNER)
    engine = make_engine(fake_cluster, tmp_path / "state", options=options)
    async with opened_engine(engine), connected(options) as late:
        await build(engine, source, plan(), owner=OWNER)
        seen = (await late.get(client.NAMESPACES, name))["metadata"]
        await late.delete(client.NAMESPACES, name, seen={**seen, "resourceVersion": "1"})
        await late.delete(client.NAMESPACES, name, seen={**seen, "uid": "another"})
        assert named(fake_cluster, NAMESPACES, name)
        assert (await late.get(client.NAMESPACES, name))["metadata"] == seen


async def test_close_leaves_namespaces_of_which_something_is_kept_alone(
    fake_cluster: Cluster, options: ClusterOptions, source: Path, tmp_path: Path
) -> None:
    engine = make_engine(fake_cluster, tmp_path / "state", options=options)
    async with opened_engine(engine):
        await build(engine, source, plan(), owner=OWNER)
        await build(engine, source, plan(), owner=OTHER, deployment_id="other")
        fake_cluster.fail("delete", "namespaces", INTERNAL)
        with pytest.raises(ClusterUnavailable):
            await engine.stop("other", keep=Keep.NOTHING)
        fake_cluster.mend()
    kept = wallet_namespace(options.prefix, OWNER)
    await until(lambda: named(fake_cluster, NAMESPACES, options.prefix) == [kept])
