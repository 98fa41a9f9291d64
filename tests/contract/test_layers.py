"""An install that would make what one made before is not run again, and no wallet has another's."""

from pathlib import Path

import pytest

from moorage.engines.engine import Limits, log_tail
from moorage.engines.sandbox.sandbox import Sandbox
from moorage.errors import DeployFailed
from moorage.planning.plan import Plan, Settings
from moorage.planning.planner import make_plan
from moorage.records.deployment import LogKind
from moorage.sdk.archive import list_files
from moorage.uploads.reader import DirectoryTree
from support.engines.small_apps import LIMITS, MIB, SERVER, build, fetch, logged, plan, start
from support.engines.toolboxes import TOOLBOX

pytestmark = pytest.mark.root

ALICE, BOB = "0x" + "a1" * 20, "0x" + "b0" * 20
SKIPPED = "dependencies unchanged: install skipped"
INSTALL = "echo installs; mkdir -p packages; cp lock packages/lock"


def installing(install: str = INSTALL, *, after: str | None = None) -> Plan:
    return plan(install=install, build=after, install_inputs=("lock",))


@pytest.fixture
def source(source: Path) -> Path:
    (source / "lock").write_text("one")
    return source


async def log(sandbox: Sandbox, deployment_id: str) -> str:
    return await log_tail(sandbox, deployment_id, LogKind.BUILD)


def layers(tmp_path: Path) -> list[Path]:
    """What is kept of installs, and what is left half made."""
    kept = (tmp_path / "state" / "caches").glob("*/*")
    return [path for path in kept if path.name != "downloads.img"]


async def test_unchanged_lock_file_skips_the_install(
    caching_sandbox: Sandbox, source: Path
) -> None:
    (source / "old").mkdir()
    (source / "old" / "page").touch()
    await build(caching_sandbox, source, installing(), owner=ALICE)
    (source / "old" / "page").unlink()
    (source / "old").rmdir()
    (source / "new").write_text("of the second version")
    (source / "index.js").write_text(SERVER.replace("hello", "changed") % "process.env.PORT")
    after = "ls; cat packages/lock new; touch /tmp/usable built"
    the_plan = installing(after=after)
    await build(caching_sandbox, source, the_plan, deployment_id="second", owner=ALICE)
    said = (await log(caching_sandbox, "second")).splitlines()
    assert said[0] == SKIPPED
    assert said[2:6] == ["index.js", "lock", "new", "packages"]
    assert said[6] == "oneof the second version"
    instance = await start(caching_sandbox, the_plan, deployment_id="second")
    assert await fetch(instance.address) == "changed"


async def test_bytecode_that_an_install_compiled_is_good_over_a_layer_and_in_a_copy(
    caching_sandbox: Sandbox, source: Path
) -> None:
    install = (
        "mkdir packages && cd packages && touch -d 2020-01-01 __init__.py module.py"
        " && python3 -m compileall -q -f . && cd .. && " + INSTALL
    )
    await build(caching_sandbox, source, installing(install), owner=ALICE)
    await build(caching_sandbox, source, installing(install), deployment_id="second", owner=ALICE)
    await caching_sandbox.copy("second", "third")
    loads = "python3 -v -c 'import packages.module' 2>&1 | grep -o 'from ./app/packages/.*'"
    for deployment_id in ("second", "third"):
        the_plan = plan(start=f"{loads}; echo loaded; exec node index.js")
        await start(caching_sandbox, the_plan, deployment_id=deployment_id)
        log = await logged(caching_sandbox, "loaded\n", deployment_id=deployment_id)
        *said, _ = log.splitlines()
        assert len(said) == 2
        assert all(line.endswith(".pyc'") for line in said), said


STAGES = """\
FROM node:20 AS packages
WORKDIR /packages
COPY packages.lock ./
RUN echo installs && mkdir -p made && cp packages.lock made/list

FROM node:20
WORKDIR /srv/own
ENV FROM_ENV=kept
COPY packages.lock ./
RUN cp packages.lock own.lock
COPY --from=packages /packages/made ./packages
COPY . .
RUN echo files && ls && echo and $FROM_ENV && cat packages/list own.lock
CMD ["node", "index.js"]
"""


@pytest.mark.parametrize("directory", ["", "deep/app"])
async def test_install_of_a_dockerfile_is_skipped_while_its_lists_are_the_same(
    caching_sandbox: Sandbox, tmp_path: Path, directory: str
) -> None:
    app = tmp_path / "upload" / directory
    app.mkdir(parents=True)
    (tmp_path / "upload" / "beside.txt").touch()
    for name, text in (("Dockerfile", STAGES), ("packages.lock", "one\n"), ("old.js", "")):
        (app / name).write_text(text)
    (app / ".dockerignore").write_text("Dockerfile\n.dockerignore\nbeside.txt\nleft-out\n")

    async def built(deployment_id: str, answer: str) -> list[str]:
        (app / "index.js").write_text(SERVER.replace("hello", answer) % "process.env.PORT")
        tree = DirectoryTree(tmp_path / "upload", list_files(tmp_path / "upload").sizes)
        settings = Settings(has_dockerfile=True, directory_path=directory or None)
        the_plan = make_plan(tree, settings, TOOLBOX)
        upload = tmp_path / "upload"
        await build(caching_sandbox, upload, the_plan, deployment_id=deployment_id, owner=ALICE)
        instance = await start(caching_sandbox, the_plan, deployment_id=deployment_id)
        assert await fetch(instance.address) == answer
        return (await log(caching_sandbox, deployment_id)).splitlines()

    first = await built("first", "hello")
    assert first.count("installs") == 1
    assert first.count("$ # install, as the Dockerfile says …") == 1
    assert first[-9:] == [
        *("files", "index.js", "old.js", "own.lock", "packages", "packages.lock"),
        *("and kept", "one", "one"),
    ]
    (app / "old.js").rename(app / "new.js")
    (app / "left-out").write_text("an ignored file changes no install")
    second = await built("second", "changed")
    assert SKIPPED in second
    assert "installs" not in second
    assert second[-9:] == [
        *("files", "index.js", "new.js", "own.lock", "packages", "packages.lock"),
        *("and kept", "one", "one"),
    ]
    (app / "packages.lock").write_text("two\n")
    third = await built("third", "again")
    assert "installs" in third
    assert third[-2:] == ["two", "two"]


@pytest.mark.parametrize(
    "change",
    ["lock", "command", "owner", "disk"],
)
async def test_install_runs_when_anything_changed_that_it_depends_on(
    caching_sandbox: Sandbox, source: Path, change: str
) -> None:
    await build(caching_sandbox, source, installing(), owner=ALICE)
    if change == "lock":
        (source / "lock").write_text("two")
    await build(
        caching_sandbox,
        source,
        installing(INSTALL + " " if change == "command" else INSTALL),
        deployment_id="second",
        owner=BOB if change == "owner" else ALICE,
        limits=_with_disk(96 * MIB) if change == "disk" else LIMITS,
    )
    assert "installs\n" in await log(caching_sandbox, "second")
    assert SKIPPED not in await log(caching_sandbox, "second")


@pytest.mark.parametrize(("owner", "inputs"), [("", ("lock",)), (ALICE, ())])
async def test_nothing_is_kept_for_nobody_or_when_all_files_matter(
    caching_sandbox: Sandbox, source: Path, tmp_path: Path, owner: str, inputs: tuple[str, ...]
) -> None:
    the_plan = plan(install=INSTALL, install_inputs=inputs)
    for deployment_id in ("first", "second"):
        await build(caching_sandbox, source, the_plan, deployment_id=deployment_id, owner=owner)
        assert "installs\n" in await log(caching_sandbox, deployment_id)
    assert layers(tmp_path) == []


async def test_failed_install_leaves_no_layer(
    caching_sandbox: Sandbox, source: Path, tmp_path: Path
) -> None:
    with pytest.raises(DeployFailed):
        await build(caching_sandbox, source, installing("exit 1"), owner=ALICE)
    assert layers(tmp_path) == []


async def test_failed_build_keeps_the_layer_of_its_install(
    caching_sandbox: Sandbox, source: Path
) -> None:
    with pytest.raises(DeployFailed):
        await build(caching_sandbox, source, installing(after="exit 1"), owner=ALICE)
    await build(caching_sandbox, source, installing(), deployment_id="second", owner=ALICE)
    assert SKIPPED in await log(caching_sandbox, "second")


@pytest.mark.parametrize("damage", ["empty", "torn", "zeroed"])
async def test_damaged_layer_is_thrown_away_and_the_install_runs(
    caching_sandbox: Sandbox, source: Path, tmp_path: Path, damage: str
) -> None:
    await build(caching_sandbox, source, installing(), owner=ALICE)
    (layer,) = layers(tmp_path)
    with layer.open("r+b") as image:
        if damage == "zeroed":
            image.write(bytes(4 * MIB))
        else:
            image.truncate(0 if damage == "empty" else 10 * MIB)
    for deployment_id, said in (("second", "installs\n"), ("third", SKIPPED)):
        await build(caching_sandbox, source, installing(), deployment_id=deployment_id, owner=ALICE)
        assert said in await log(caching_sandbox, deployment_id)
        await start(caching_sandbox, installing(), deployment_id=deployment_id)


@pytest.mark.parametrize(
    "install",
    [
        "rm -r conf; ln -s {outside} conf",
        "rm conf/file; ln -s {outside}/file conf/file",
        "rm lock; ln -s {outside}/file lock",
        "rm -r conf; echo in the way > conf",
    ],
)
async def test_what_an_install_puts_in_the_sources_way_leads_nowhere(
    caching_sandbox: Sandbox, source: Path, tmp_path: Path, install: str
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_text("the host's")
    (source / "conf").mkdir()
    (source / "conf" / "file").write_text("the app's")
    the_plan = installing(install.format(outside=outside))
    for deployment_id in ("first", "second", "third"):
        await build(caching_sandbox, source, the_plan, deployment_id=deployment_id, owner=ALICE)
        (source / "conf" / deployment_id).write_text("more")
    assert [path.name for path in outside.iterdir()] == ["file"]
    assert (outside / "file").read_text() == "the host's"


async def test_layer_is_whole_though_its_install_left_processes(
    caching_sandbox: Sandbox, source: Path
) -> None:
    install = "seq 100000 > packages; (while :; do date >> packages; done) & sleep 0.1"
    await build(caching_sandbox, source, installing(install), owner=ALICE)
    check = installing(install, after="head -n 100000 packages | tail -n 1")
    await build(caching_sandbox, source, check, deployment_id="second", owner=ALICE)
    assert (await log(caching_sandbox, "second")).endswith("\n100000\n")


async def test_layers_outlive_the_gateway_and_stay_within_the_cap(
    caching_sandbox: Sandbox, source: Path, tmp_path: Path
) -> None:
    install = "head -c 20000000 /dev/zero | tr '\\0' x > packages"
    for number in range(5):
        (source / "lock").write_text(str(number))
        await build(
            caching_sandbox,
            source,
            installing(install),
            deployment_id=f"number-{number}",
            owner=ALICE,
        )
    taken = sum(path.stat().st_blocks * 512 for path in layers(tmp_path))
    assert 0 < taken <= 64 * MIB
    await caching_sandbox.close(stop_apps=True)
    await caching_sandbox.open()
    await build(caching_sandbox, source, installing(install), deployment_id="again", owner=ALICE)
    assert SKIPPED in await log(caching_sandbox, "again")


def _with_disk(disk_bytes: int) -> Limits:
    return Limits(
        memory_bytes=LIMITS.memory_bytes,
        cpu_millis=LIMITS.cpu_millis,
        pids=LIMITS.pids,
        disk_bytes=disk_bytes,
    )
