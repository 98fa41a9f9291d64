"""What is kept for later builds: the key of a layer, and what goes when there is too much."""

import os
from pathlib import Path

import msgspec
import pytest

from moorage.engines.disks.caches import Caches, layer_key
from moorage.engines.engine import BuildSpec, Limits
from moorage.planning.plan import Plan, Stack
from support.gateway.clock import MovableClock

KIB = 1024
PLAN = Plan(
    stack=Stack.NODE,
    directory="",
    install="npm ci",
    build="npm run build",
    start="npm start",
    port=3000,
    build_env={},
    run_env={},
    because=(),
    install_inputs=("package.json", "package-lock.json"),
)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "package.json").write_text("{}")
    (tmp_path / "source" / "package-lock.json").write_text("{}")
    (tmp_path / "source" / "index.js").write_text("")
    return tmp_path / "source"


def spec(
    source: Path, plan: Plan = PLAN, *, owner: str = "0xa", disk_bytes: int = 1, **variables: str
) -> BuildSpec:
    limits = Limits(memory_bytes=1, cpu_millis=1, pids=1, disk_bytes=disk_bytes)
    return BuildSpec(
        deployment_id="d",
        source=source,
        plan=plan,
        limits=limits,
        timeout_seconds=1,
        owner=owner,
        variables=variables,
    )


def changed(**fields: object) -> Plan:
    return msgspec.structs.replace(PLAN, **fields)


def test_key_is_the_same_whatever_the_install_does_not_read(source: Path) -> None:
    before = layer_key(spec(source), {})
    (source / "index.js").write_text("changed")
    (source / "more.js").write_text("added")
    assert layer_key(spec(source, changed(build="other", start="other", port=1)), {}) == before


@pytest.mark.parametrize(
    "plan",
    [
        changed(install="npm ci "),
        changed(directory="web"),
        changed(toolchains={"node": "20.1.0"}),
        changed(build_env={"A": "b"}),
        changed(install_inputs=("package.json",)),
        changed(install_inputs=("package.json", "package-lock.json", ".npmrc")),
    ],
)
def test_key_covers_what_of_the_plan_the_install_sees(source: Path, plan: Plan) -> None:
    assert layer_key(spec(source, plan), {}) != layer_key(spec(source), {})


def test_key_covers_owner_disk_and_variables(source: Path) -> None:
    keys = {
        layer_key(spec(source), {}),
        layer_key(spec(source, owner="0xb"), {}),
        layer_key(spec(source, disk_bytes=2), {}),
        layer_key(spec(source, TOKEN="a"), {}),
        layer_key(spec(source, TOKEN="b"), {}),
        layer_key(spec(source), {"TOKEN": "a"}),
    }
    assert len(keys) == 6


def test_key_covers_the_content_of_each_input_and_whether_it_is_there(source: Path) -> None:
    keys = [layer_key(spec(source), {})]
    (source / "package-lock.json").write_text("")
    keys.append(layer_key(spec(source), {}))
    (source / "package-lock.json").unlink()
    keys.append(layer_key(spec(source), {}))
    (source / "package.json").write_text("{ }")
    keys.append(layer_key(spec(source), {}))
    assert len(set(keys)) == 4


@pytest.fixture
def caches(tmp_path: Path) -> Caches:
    return Caches(
        directory=tmp_path / "caches",
        wallet_bytes=100 * KIB,
        total_bytes=150 * KIB,
        clock=MovableClock(),
    )


def keep(caches: Caches, owner: str, name: str, kib: int, *, used_at: int) -> Path:
    directory = caches.of(owner)
    assert directory is not None
    file = directory / f"{name}.img"
    file.write_bytes(b"x" * kib * KIB)
    os.utime(file, (used_at, used_at))
    return file


def test_least_recently_used_goes_first_when_a_wallet_has_too_much(caches: Caches) -> None:
    old = keep(caches, "alice", "old", 40, used_at=1)
    kept = [
        keep(caches, "alice", "newer", 40, used_at=2),
        keep(caches, "alice", "new", 40, used_at=3),
        keep(caches, "bob", "oldest", 40, used_at=0),
    ]
    caches.collect()
    assert not old.exists()
    assert all(file.exists() for file in kept)


def test_least_recently_used_of_all_goes_when_all_have_too_much(caches: Caches) -> None:
    oldest = keep(caches, "alice", "one", 80, used_at=1)
    newest = keep(caches, "bob", "one", 80, used_at=2)
    caches.collect()
    assert not oldest.exists()
    assert newest.exists()


def test_what_a_wallet_may_not_have_at_all_drives_out_nothing(caches: Caches) -> None:
    small = keep(caches, "alice", "small", 40, used_at=1)
    large = keep(caches, "alice", "large", 120, used_at=2)
    caches.collect()
    assert small.exists()
    assert not large.exists()


def test_use_counts_from_now(caches: Caches) -> None:
    first = keep(caches, "alice", "first", 60, used_at=1)
    second = keep(caches, "alice", "second", 60, used_at=2)
    caches.use(first)
    caches.collect()
    assert first.exists()
    assert not second.exists()


@pytest.mark.parametrize(("owner", "wallet_bytes"), [("", 1), ("alice", 0)])
def test_nothing_is_kept_for_nobody_or_without_room(
    tmp_path: Path, owner: str, wallet_bytes: int
) -> None:
    caches = Caches(
        directory=tmp_path, wallet_bytes=wallet_bytes, total_bytes=1, clock=MovableClock()
    )
    assert caches.of(owner) is None
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("owner", ["../../etc", "/etc", "a/b", ".", "0xA", "0xa"])
def test_each_wallet_has_a_directory_of_its_own_below_the_caches(
    caches: Caches, owner: str
) -> None:
    directory = caches.of(owner)
    assert directory is not None
    assert directory.parent == caches.directory
    assert directory.is_dir()
    assert directory != caches.of(owner + " ")


def test_sweep_removes_what_is_half_made(caches: Caches) -> None:
    kept = keep(caches, "alice", "kept", 1, used_at=1)
    (kept.parent / "d.draft").touch()
    assert caches.of("bob") is not None
    caches.sweep()
    assert list(caches.directory.rglob("*")) == [kept.parent, kept]
