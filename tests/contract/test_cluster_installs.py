"""In a cluster, an install that would make what one made before is not run: its layer is used."""

import errno
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from moorage.engines.images.credentials import Credentials
from moorage.engines.images.reference import Repository
from moorage.engines.images.registry import Registry
from moorage.engines.kubernetes.building.registry.installs import Installs
from moorage.engines.kubernetes.engine import KubernetesEngine
from moorage.engines.kubernetes.objects.labels import wallet_hash
from moorage.errors import DeployFailed
from moorage.planning.plan import Plan
from moorage.records.deployment import LogKind
from support.engines.fake_kubernetes.cluster import Cluster
from support.engines.kubernetes_engine_fixture import opened_engine
from support.engines.registry_fixture import RegistryServer
from support.engines.runtime_fixture import make_building_engine
from support.engines.small_apps import MIB, SERVER, build, fetch, plan, start

pytestmark = pytest.mark.root

ALICE, BOB, CAROL = "0x" + "a1" * 20, "0x" + "b0" * 20, "0x" + "c0" * 20
SKIPPED = "dependencies unchanged: install skipped"
INSTALL = "echo installs; mkdir -p packages/deep; cp lock packages/lock; touch packages/deep/unused"
AFTER = "cat packages/lock page; ls packages"


def installing(after: str | None = AFTER, *, install: str = INSTALL) -> Plan:
    return plan(install=install, build=after, install_inputs=("lock",))


def answering(words: str) -> str:
    """An app that says these words, and what is in `packages`."""
    shown = "require('fs').readdirSync('packages').sort()"
    return SERVER.replace("'hello'", f"'{words} ' + {shown}") % "process.env.PORT"


@pytest.fixture
def source(source: Path) -> Path:
    (source / "lock").write_text("one\n")
    (source / "page").write_text("first\n")
    (source / "index.js").write_text(answering("first"))
    return source


@pytest.fixture
async def engine(
    building_cluster: Cluster,
    cluster_registry: RegistryServer,
    tmp_path: Path,
    short_run_dir: Path,
) -> AsyncIterator[KubernetesEngine]:
    made = make_building_engine(
        building_cluster,
        cluster_registry,
        state_dir=tmp_path / "state",
        run_dir=short_run_dir,
        wallet_cache_bytes=64 * MIB,
    )
    async with opened_engine(made) as opened:
        yield opened


async def log(engine: KubernetesEngine, deployment_id: str) -> list[str]:
    """What a build has said, from what it was built on."""
    said = (await engine.log_tail(deployment_id, LogKind.BUILD)).splitlines()
    return said[next(n for n, line in enumerate(said) if line.startswith("built on")) + 1 :]


class Kept:
    """The installs that the registry keeps of a wallet."""

    def __init__(self, server: RegistryServer, wallet: str) -> None:
        name = f"apps/{wallet_hash(wallet)}/install"
        self._repository = Repository(registry=server.host, name=name)

    async def keys(self) -> list[str]:
        registry = Registry(Credentials({}))
        try:
            return await registry.tags(self._repository)
        finally:
            await registry.close()


async def test_unchanged_lock_file_skips_the_install_and_a_changed_one_does_not(
    engine: KubernetesEngine, source: Path
) -> None:
    await build(engine, source, installing(), deployment_id="first", owner=ALICE)
    assert await log(engine, "first") == [
        f"$ {INSTALL}", "installs", f"$ {AFTER}", "one", "first", "deep", "lock",
    ]  # fmt: skip

    (source / "page").write_text("second\n")
    (source / "index.js").write_text(answering("second"))
    await build(engine, source, installing(), deployment_id="second", owner=ALICE)
    assert await log(engine, "second") == [SKIPPED, f"$ {AFTER}", "one", "second", "deep", "lock"]
    instance = await start(engine, installing(), deployment_id="second")
    assert await fetch(instance.address) == "second deep,lock"

    (source / "lock").write_text("two\n")
    await build(engine, source, installing(), deployment_id="third", owner=ALICE)
    said = await log(engine, "third")
    assert (said[0], said[3]) == (f"$ {INSTALL}", "two")


async def test_app_is_what_its_build_has_made_of_what_was_installed(
    engine: KubernetesEngine, source: Path
) -> None:
    """Files that it changes, adds and removes, whoever has installed them."""
    after = "rm -r packages/deep; echo changed > packages/lock; touch packages/added; rm page"
    for number, deployment_id in enumerate(("first", "second")):
        (source / "index.js").write_text(
            answering("").replace("' '", "require('fs').readFileSync('packages/lock')")
        )
        await build(engine, source, installing(after), deployment_id=deployment_id, owner=ALICE)
        assert (SKIPPED in await log(engine, deployment_id)) == bool(number)
        instance = await start(engine, installing(after), deployment_id=deployment_id)
        assert await fetch(instance.address) == "changed\nadded,lock"


async def test_app_that_has_nothing_to_build_is_its_files_upon_what_was_installed(
    engine: KubernetesEngine, source: Path
) -> None:
    """Unless these have a place of what was installed: then it is installed anew."""
    await build(engine, source, installing(None), deployment_id="first", owner=ALICE)
    (source / "index.js").write_text(answering("second"))
    await build(engine, source, installing(None), deployment_id="second", owner=ALICE)
    assert await log(engine, "second") == [SKIPPED]
    instance = await start(engine, installing(None), deployment_id="second")
    assert await fetch(instance.address) == "second deep,lock"

    (source / "packages").mkdir()
    (source / "packages" / "mine").touch()
    await build(engine, source, installing(None), deployment_id="third", owner=ALICE)
    assert await log(engine, "third") == [f"$ {INSTALL}", "installs"]


async def test_wallets_share_no_install_and_what_nobody_needs_goes(
    engine: KubernetesEngine, source: Path, cluster_registry: RegistryServer
) -> None:
    carols, bobs = (Kept(cluster_registry, wallet) for wallet in (CAROL, BOB))
    await build(engine, source, installing(None), deployment_id="carols", owner=CAROL)
    await build(engine, source, installing(None), deployment_id="bobs", owner=BOB)
    assert await log(engine, "bobs") == [f"$ {INSTALL}", "installs"]
    (of_carol,), (of_bob,) = await carols.keys(), await bobs.keys()
    assert of_carol != of_bob

    await engine.remove("carols")
    assert (await carols.keys(), await bobs.keys()) == ([], [of_bob])


async def test_build_that_failed_has_its_install_at_the_next_try(
    engine: KubernetesEngine, source: Path
) -> None:
    with pytest.raises(DeployFailed):
        await build(engine, source, installing("exit 3"), deployment_id="first", owner=ALICE)
    await build(engine, source, installing(), deployment_id="second", owner=ALICE)
    assert (await log(engine, "second"))[0] == SKIPPED


async def test_what_can_not_be_kept_fails_no_build_and_hides_no_failure(
    engine: KubernetesEngine, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "the gateway's disk is full")

    monkeypatch.setattr(Installs, "keep", fail)
    await build(engine, source, installing(), deployment_id="first", owner=ALICE)
    with pytest.raises(DeployFailed, match="exit 3"):
        await build(engine, source, installing("exit 3"), deployment_id="second", owner=ALICE)
