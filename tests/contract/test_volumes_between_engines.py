"""Volumes go from the sandbox into a cluster and back, and out of it into an export."""

import asyncio
import json
import tempfile
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from moorage.archive.tree import Tree, read_tree
from moorage.engines.engine import Engine, Instance, InstanceSpec, Keep, NewVolume
from moorage.engines.kubernetes.engine import KubernetesEngine
from moorage.engines.sandbox.sandbox import Sandbox
from moorage.errors import DeployFailed, FailureCause
from moorage.planning.plan import Stack
from support.engines.fake_kubernetes.cluster import Cluster
from support.engines.fake_kubernetes.resources import CLAIMS, NETWORK_POLICIES, PODS, SECRETS
from support.engines.kubernetes_engine_fixture import (
    CopyingBuilder,
    cluster_options,
    make_engine,
    opened_engine,
)
from support.engines.small_apps import LIMITS, MIB, build, get, plan

pytestmark = pytest.mark.root

OWNER = "0x" + "cd" * 20
# Answers what the query says: an expression, evaluated in the app.
SHELL = """\
const fs = require('fs'), child = require('child_process');
process.on('SIGTERM', () => process.exit(0));
require('http').createServer((request, response) => {
  let said;
  try { said = eval(decodeURIComponent(request.url.slice(2))); }
  catch (error) { said = error.code || String(error); }
  response.end(JSON.stringify(said === undefined ? null : said));
}).listen(process.env.PORT);
"""
FILL = """\
fs.mkdirSync('/data/deep/er', {recursive: true}); fs.chmodSync('/data/deep', 0o500);
fs.writeFileSync('/data/run.sh', 'echo hi', {mode: 0o750});
fs.symlinkSync('run.sh', '/data/near'); fs.symlinkSync('/etc/passwd', '/data/far');
fs.linkSync('/data/run.sh', '/data/second');
fs.writeFileSync('/data/sparse', 'begin'); fs.truncateSync('/data/sparse', 2 ** 30);
child.execSync('mkfifo /data/pipe');
fs.chmodSync('/data', 0o750);
"""
LOOK = """\
JSON.stringify({
  names: fs.readdirSync('/data').filter(name => name !== 'lost+found').sort(),
  mine: fs.statSync('/data/run.sh').uid === process.getuid(),
  modes: ['run.sh', 'deep'].map(name => fs.statSync('/data/' + name).mode & 0o7777),
  links: ['near', 'far'].map(name => fs.readlinkSync('/data/' + name)),
  names_of_one: fs.statSync('/data/run.sh').nlink,
  sparse: [fs.statSync('/data/sparse').size, fs.statSync('/data/sparse').blocks < 100],
  text: fs.readFileSync('/data/second', 'utf8'),
})
"""
FOUND = {
    "names": ["deep", "far", "near", "run.sh", "second", "sparse"],
    "mine": True,
    "modes": [0o750, 0o500],
    "links": ["run.sh", "/etc/passwd"],
    "names_of_one": 2,
    "sparse": [2**30, True],
    "text": "echo hi",
}


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("source")
    directory.chmod(0o755)  # apps are other users
    (directory / "index.js").write_text(SHELL)
    return directory


@pytest.fixture
def users() -> dict[str, str]:
    """Whom apps in the cluster run as, by their deployments, if it is not 1000."""
    return {}


@pytest.fixture
async def cluster(
    fake_cluster: Cluster, users: dict[str, str], tmp_path: Path
) -> AsyncIterator[KubernetesEngine]:
    builder = CopyingBuilder(fake_cluster, fake_cluster.directory / "built", users=users)
    made = make_engine(fake_cluster, tmp_path / "cluster", builder=builder)
    async with opened_engine(made) as engine:
        yield engine


async def begin(
    engine: Engine,
    source: Path,
    volume: str,
    *,
    own_user: bool = False,
    volume_bytes: int = 32 * MIB,
) -> Instance:
    """An app that is named after its volume; its image says whom it runs as, or Moorage does."""
    await build(engine, source, plan(), deployment_id=volume, owner=OWNER)
    limits = replace(LIMITS, volume_bytes=volume_bytes)
    started = msgspec.structs.replace(plan(), stack=Stack.DOCKERFILE) if own_user else plan()
    spec = InstanceSpec(
        deployment_id=volume, plan=started, limits=limits, owner=OWNER, volume=volume
    )
    return await engine.start(spec, timeout_seconds=30)


async def said(instance: Instance, expression: str) -> object:
    """What an expression gives, inside the app."""
    asked = "".join(f"%{byte:02x}" for byte in expression.encode())
    return json.loads(await asyncio.to_thread(get, instance.address, f"/?{asked}"))


def new_volume(volume: str, size_bytes: int = 32 * MIB) -> NewVolume:
    return NewVolume(volume_id=volume, owner=OWNER, deployment_id=volume, size_bytes=size_bytes)


async def read(engine: Engine, volume: str, target: Path) -> Tree:
    tree = await engine.read_volume(volume, target)
    assert tree is not None
    return tree


async def move(volume: str, before: Engine, after: Engine, directory: Path, source: Path) -> None:
    """Takes a volume that no app uses from one engine to another, where its app is built."""
    await build(after, source, plan(), deployment_id=volume, owner=OWNER)
    await after.write_volume(new_volume(volume), await read(before, volume, directory / "archive"))


def files_of(tree: Tree, directory: Path) -> dict[str, str]:
    """What is in the files of a tree, by their paths; unpacked into a new directory."""
    directory.mkdir()
    with tree.path.open("rb") as source:
        read_tree(source, directory, digest=tree.digest, max_bytes=96 * MIB)
    return {
        path.relative_to(directory).as_posix(): path.read_text()
        for path in directory.rglob("*")
        if path.is_file() and not path.is_symlink()
    }


async def test_volume_goes_into_a_cluster_and_back_with_all_that_its_app_made(
    sandbox: Sandbox, cluster: KubernetesEngine, shell: Path, tmp_path: Path
) -> None:
    app = await begin(sandbox, shell, "there")
    await said(app, FILL)
    await sandbox.stop("there")
    await move("there", sandbox, cluster, tmp_path, shell)
    app = await begin(cluster, shell, "there")
    assert json.loads(str(await said(app, LOOK))) == FOUND
    await said(app, "fs.writeFileSync('/data/second', 'echo there')")
    await cluster.stop("there")

    back = tmp_path / "back"
    back.mkdir()
    await move("there", cluster, sandbox, back, shell)
    await sandbox.stop("there", keep=Keep.NOTHING)
    app = await begin(sandbox, shell, "there")
    assert json.loads(str(await said(app, LOOK))) == {**FOUND, "text": "echo there"}
    assert await said(app, "fs.writeFileSync('/data/more', 'own')") is None
    await sandbox.stop("there")
    for engine in (sandbox, cluster):
        await engine.delete_volume("there")
        assert await engine.volumes() == set()


async def test_nothing_runs_for_a_volume_once_it_was_moved(
    sandbox: Sandbox, cluster: KubernetesEngine, fake_cluster: Cluster, shell: Path, tmp_path: Path
) -> None:
    await begin(sandbox, shell, "quiet")
    await sandbox.stop("quiet")
    await move("quiet", sandbox, cluster, tmp_path, shell)
    for kind in (PODS, SECRETS):
        names = {it["metadata"]["name"] for it in fake_cluster.objects(kind)}
        assert not {name for name in names if name.startswith("volume-")}


async def test_volume_is_written_again_in_place_of_an_earlier_attempts(
    sandbox: Sandbox, cluster: KubernetesEngine, shell: Path, tmp_path: Path
) -> None:
    app = await begin(sandbox, shell, "again")
    await said(app, "fs.writeFileSync('/data/old', '1')")
    await sandbox.stop("again")
    await move("again", sandbox, cluster, tmp_path, shell)
    app = await begin(sandbox, shell, "again")
    await said(app, "fs.renameSync('/data/old', '/data/new')")
    await sandbox.stop("again")
    for engine, other in ((cluster, sandbox), (sandbox, cluster)):
        with tempfile.TemporaryDirectory(dir=tmp_path) as directory:
            await move("again", other, engine, Path(directory), shell)
    app = await begin(cluster, shell, "again")
    assert await said(app, "fs.readdirSync('/data').filter(it => it !== 'lost+found')") == ["new"]


async def test_files_that_do_not_fit_are_refused_and_leave_no_volume_that_looks_whole(
    sandbox: Sandbox, cluster: KubernetesEngine, shell: Path, tmp_path: Path
) -> None:
    for name in ("large", "larger"):
        app = await begin(sandbox, shell, name, volume_bytes=96 * MIB)
        await said(app, "fs.writeFileSync('/data/x', Buffer.alloc(40 * 2 ** 20, 1))")
        await sandbox.stop(name)
    await build(cluster, shell, plan(), deployment_id="large", owner=OWNER)
    for engine, name in ((cluster, "large"), (sandbox, "larger")):
        tree = await read(sandbox, "larger", tmp_path / name)
        with pytest.raises(DeployFailed, match="can't be moved") as failed:
            await engine.write_volume(new_volume(name), tree)
        assert failed.value.cause is FailureCause.OUT_OF_DISK
    assert files_of(
        await read(sandbox, "larger", tmp_path / "still"), tmp_path / "there"
    ).keys() == {"x"}


async def test_claim_that_the_wallet_may_not_have_is_no_capacity(
    sandbox: Sandbox, cluster: KubernetesEngine, shell: Path, tmp_path: Path
) -> None:
    await begin(sandbox, shell, "huge")
    await sandbox.stop("huge")
    await build(cluster, shell, plan(), deployment_id="huge", owner=OWNER)
    tree = await read(sandbox, "huge", tmp_path / "archive")
    with pytest.raises(DeployFailed) as failed:
        await cluster.write_volume(new_volume("huge", 1 << 50), tree)
    assert failed.value.cause is FailureCause.NO_CAPACITY


async def test_archive_that_is_not_the_one_that_was_packed_is_not_taken(
    sandbox: Sandbox, cluster: KubernetesEngine, shell: Path, tmp_path: Path
) -> None:
    await begin(sandbox, shell, "other")
    await sandbox.stop("other")
    tree = await read(sandbox, "other", tmp_path / "archive")
    await build(cluster, shell, plan(), deployment_id="spoilt", owner=OWNER)
    for engine in (sandbox, cluster):
        with pytest.raises(DeployFailed, match="otherwise"):
            await engine.write_volume(new_volume("spoilt"), replace(tree, digest="sha256:00"))


async def test_volume_that_is_larger_than_its_bounds_is_not_read(
    sandbox: Sandbox, cluster: KubernetesEngine, shell: Path, tmp_path: Path
) -> None:
    for engine in (sandbox, cluster):
        app = await begin(engine, shell, "full")
        await said(app, "fs.writeFileSync('/data/large', Buffer.alloc(2 ** 20, 1))")
        await engine.stop("full")
        with pytest.raises(DeployFailed, match="larger than 0 MiB") as failed:
            await engine.read_volume("full", tmp_path / f"{id(engine)}", max_bytes=MIB // 2)
        assert failed.value.cause is FailureCause.OUT_OF_DISK


async def test_files_and_volume_of_an_app_in_a_cluster_are_exported_while_it_runs(
    cluster: KubernetesEngine, shell: Path, tmp_path: Path
) -> None:
    app = await begin(cluster, shell, "leaves")
    await said(app, "fs.mkdirSync('/data/a'); fs.writeFileSync('/data/a/b', 'kept')")
    await said(app, "fs.symlinkSync('/etc/passwd', '/data/link')")
    tree = await read(cluster, "leaves", tmp_path / "archive")
    assert await said(app, "fs.readFileSync('/data/a/b', 'utf8')") == "kept"
    assert files_of(tree, tmp_path / "data") == {"a/b": "kept"}

    await cluster.export_files("leaves", tmp_path / "files")
    assert (tmp_path / "files/index.js").read_text() == SHELL
    assert await cluster.read_volume("none", tmp_path / "none") is None
    with pytest.raises(DeployFailed, match="no finished build"):
        await cluster.export_files("none", tmp_path / "none")


async def test_volume_of_an_app_with_a_user_of_its_own_is_that_users_wherever_it_goes(
    sandbox: Sandbox,
    cluster: KubernetesEngine,
    users: dict[str, str],
    shell: Path,
    tmp_path: Path,
) -> None:
    users["own"] = "1234:4321"
    app = await begin(sandbox, shell, "own")
    await said(app, "fs.mkdirSync('/data/b', {mode: 0o700}); fs.writeFileSync('/data/b/c', 'hers')")
    await sandbox.stop("own")
    await move("own", sandbox, cluster, tmp_path, shell)
    app = await begin(cluster, shell, "own", own_user=True)
    assert await said(app, "[process.getuid(), fs.statSync('/data/b').uid]") == [1234, 1234]
    assert await said(app, "fs.readFileSync('/data/b/c', 'utf8')") == "hers"
    await said(app, "fs.writeFileSync('/data/b/d', 'secret', {mode: 0o600})")

    tree = await read(cluster, "own", tmp_path / "exported")
    assert files_of(tree, tmp_path / "own")["b/d"] == "secret"
    assert await said(app, "fs.statSync('/data/b').mode & 0o777") == 0o700  # nothing was changed

    await cluster.stop("own")
    back = tmp_path / "back"
    back.mkdir()
    await move("own", cluster, sandbox, back, shell)
    app = await begin(sandbox, shell, "own")
    assert await said(app, "fs.statSync('/data/b/d').mode & 0o777") == 0o600
    assert await said(app, "fs.readFileSync('/data/b/d', 'utf8')") == "secret"


async def test_files_that_no_single_user_may_read_are_no_export(
    cluster: KubernetesEngine, users: dict[str, str], shell: Path, tmp_path: Path
) -> None:
    app = await begin(cluster, shell, "both")
    await said(app, "fs.writeFileSync('/data/a', 'of 1000', {mode: 0o600})")
    await cluster.stop("both")
    users["both"] = "1234"
    app = await begin(cluster, shell, "both", own_user=True)
    await said(app, "fs.mkdirSync('/data/b', {mode: 0o700}); fs.writeFileSync('/data/b/c', '')")
    with pytest.raises(DeployFailed, match="some only another"):
        await cluster.read_volume("both", tmp_path / "archive")
    await said(app, "fs.chmodSync('/data/b', 0o750)")
    tree = await read(cluster, "both", tmp_path / "archive")
    assert files_of(tree, tmp_path / "data")["a"] == "of 1000"


async def test_namespace_of_an_older_version_gets_what_an_export_needs(
    cluster: KubernetesEngine, fake_cluster: Cluster, shell: Path, tmp_path: Path
) -> None:
    """Without a policy of its own, no gateway reaches the pod of a volume."""
    await said(await begin(cluster, shell, "old"), "fs.writeFileSync('/data/a', 'kept')")
    namespace = next(
        it["metadata"]["namespace"]
        for it in fake_cluster.objects(CLAIMS)
        if it["metadata"]["name"] == "data-old"
    )
    fake_cluster.remove(NETWORK_POLICIES, namespace, "volumes")
    prefix = namespace.rpartition("-")[0]
    options = replace(cluster_options(fake_cluster), prefix=prefix)
    later = make_engine(fake_cluster, tmp_path / "later", options=options)
    await later.open()
    try:
        tree = await read(later, "old", tmp_path / "archive")
    finally:
        await later.close(stop_apps=False)
    assert files_of(tree, tmp_path / "data")["a"] == "kept"
    policies = fake_cluster.objects(NETWORK_POLICIES, namespace)
    assert "volumes" in {it["metadata"]["name"] for it in policies}


async def test_volume_in_use_is_not_written(
    sandbox: Sandbox, cluster: KubernetesEngine, shell: Path, tmp_path: Path
) -> None:
    for engine in (sandbox, cluster):
        app = await begin(engine, shell, "used")
        await said(app, "fs.writeFileSync('/data/a', 'kept')")
        tree = await read(engine, "used", tmp_path / f"{id(engine)}")
        with pytest.raises(DeployFailed, match="in use"):
            await engine.write_volume(new_volume("used"), tree)
        assert await said(app, "fs.readFileSync('/data/a', 'utf8')") == "kept"
