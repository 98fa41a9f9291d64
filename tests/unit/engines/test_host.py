"""What engines share on one machine: programs, control groups, listeners, and the ends of apps."""

import asyncio
import contextlib
import errno
import socket
import struct
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moorage.engines.engine import Limits, Usage
from moorage.engines.host.cgroup import (
    Cgroups,
    Division,
    Hierarchy,
    Shares,
    divide,
    find_hierarchy,
    limit_writes,
    parse_oom_kills,
    shared_writes,
    smaller_limit,
)
from moorage.engines.host.configuration import HostConfiguration
from moorage.engines.host.listeners import (
    Listener,
    choose,
    parse_message,
    request,
    split_messages,
)
from moorage.engines.host.local import repeat
from moorage.engines.host.processes import ExitWatcher
from moorage.errors import ConfigurationInvalid


@pytest.mark.parametrize(("length", "fits"), [(60, True), (70, False)])
def test_run_dir_that_is_too_long_for_sockets_is_refused_with_what_to_do(
    length: int, fits: bool
) -> None:
    run_dir = Path("/" + "r" * length)

    def configured() -> HostConfiguration:
        return HostConfiguration(
            state_dir=Path("/state"), run_dir=run_dir, instance_id="abcdef", tools={}
        )

    if fits:
        assert configured().run_dir == run_dir
        return
    with pytest.raises(ConfigurationInvalid, match=r"run_dir: .* Set run_dir to a short one"):
        configured()


@pytest.fixture
def ended() -> "asyncio.Queue[str]":
    return asyncio.Queue()


@pytest.fixture
async def watcher(ended: "asyncio.Queue[str]") -> AsyncIterator[ExitWatcher]:
    opened = ExitWatcher(ended.put_nowait)
    opened.open()
    yield opened
    opened.close()


async def test_end_is_awaited_until_whoever_writes_the_status_is_gone(
    watcher: ExitWatcher, ended: "asyncio.Queue[str]", tmp_path: Path
) -> None:
    status = tmp_path / "status"
    with status.open("w"):
        watcher.watch("app", status)
        assert watcher.awaits("app")
    async with asyncio.timeout(60):
        assert await ended.get() == "app"
    assert not watcher.awaits("app")


async def test_app_whose_end_was_reported_is_awaited_again_once_it_is_started(
    watcher: ExitWatcher, ended: "asyncio.Queue[str]", tmp_path: Path
) -> None:
    status = tmp_path / "status"
    for _ in range(2):
        with status.open("w"):
            watcher.watch("app", status)
            assert watcher.awaits("app")
        async with asyncio.timeout(60):
            await ended.get()
        assert not watcher.awaits("app")


async def test_app_that_is_not_watched_must_be_looked_at(
    watcher: ExitWatcher, tmp_path: Path
) -> None:
    watcher.watch("app", tmp_path / "removed meanwhile")
    assert not watcher.awaits("app")
    assert not watcher.awaits("another")


def message(address: str, port: int, *, only_ipv6: bool | None = None) -> bytes:
    """A `struct inet_diag_msg` (linux/inet_diag.h), with INET_DIAG_SKV6ONLY where it is sent."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    source = socket.inet_pton(family, address).ljust(16, b"\0")
    body = struct.pack("=BBBB", family, 10, 0, 0) + struct.pack(">HH", port, 0) + source
    body += bytes(16 + 12 + 20)
    assert len(body) == 72
    if only_ipv6 is not None:
        body += struct.pack("=HHB3x", 5, 8, 0) + struct.pack("=HHB3x", 5, 11, only_ipv6)
    return body


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        (message("0.0.0.0", 3000), Listener("127.0.0.1", 3000, loopback_only=False)),
        (message("127.0.0.1", 8080), Listener("127.0.0.1", 8080, loopback_only=True)),
        (message("10.201.0.6", 80), Listener("10.201.0.6", 80, loopback_only=False)),
        (message("::", 3000, only_ipv6=False), Listener("127.0.0.1", 3000, loopback_only=False)),
        (message("::", 3000, only_ipv6=True), Listener("::1", 3000, loopback_only=False)),
        (message("::1", 3000, only_ipv6=False), Listener("::1", 3000, loopback_only=True)),
        (
            message("::ffff:127.0.0.1", 3000, only_ipv6=False),
            Listener("127.0.0.1", 3000, loopback_only=True),
        ),
        (
            message("::ffff:0.0.0.0", 3000, only_ipv6=False),
            Listener("127.0.0.1", 3000, loopback_only=False),
        ),
    ],
)
def test_listener_has_an_address_that_reaches_it(payload: bytes, expected: Listener) -> None:
    assert parse_message(payload) == expected


def listener(target: str, port: int, *, loopback: bool = False) -> Listener:
    return Listener(target, port, loopback_only=loopback)


def test_wanted_port_is_chosen_even_on_loopback() -> None:
    found = [listener("127.0.0.1", 80), listener("127.0.0.1", 3000, loopback=True)]
    assert choose(found, 3000) == found[1]


def test_ipv4_is_chosen_before_ipv6() -> None:
    found = [listener("::1", 3000), listener("127.0.0.1", 3000)]
    assert choose(found, 3000) == found[1]


def test_open_port_is_chosen_before_one_on_loopback() -> None:
    found = [listener("127.0.0.1", 80, loopback=True), listener("127.0.0.1", 8080)]
    assert choose(found, 3000) == found[1]


def test_lowest_port_is_chosen_among_equals() -> None:
    found = [listener("127.0.0.1", 9229), listener("127.0.0.1", 8080)]
    assert choose(found, 3000) == found[1]


def test_nothing_listening_is_no_choice() -> None:
    assert choose([], 3000) is None


def test_endpoint_is_cut_at_the_last_colon() -> None:
    assert listener("::1", 3000).endpoint.rpartition(":") == ("::1", ":", "3000")


def test_request_asks_for_listening_tcp_sockets() -> None:
    sent = request(socket.AF_INET)
    assert struct.unpack_from("=IHH", sent) == (len(sent), 20, 0x301)
    assert struct.unpack_from("=BBBxI", sent, 16) == (socket.AF_INET, 6, 0, 1 << 10)
    assert len(sent) == 16 + 56


def accepts(code: bytes, port: int) -> bool:
    """As the kernel runs struct inet_diag_bc_op (net/ipv4/inet_diag.c, inet_diag_bc_run)."""
    position, left = 0, len(code)
    while left > 0:
        operation, yes, no = struct.unpack_from("=BBH", code, position)
        operand = struct.unpack_from("=BBH", code, position + 4)[2]
        holds = {2: port >= operand, 3: port <= operand}[operation]
        left -= yes if holds else no
        position += yes if holds else no
    return left == 0


def test_request_for_a_port_is_filtered_by_the_kernel() -> None:
    sent = request(socket.AF_INET, port=3000)
    assert struct.unpack_from("=I", sent)[0] == len(sent)
    length, kind = struct.unpack_from("=HH", sent, 72)
    assert (length, kind) == (len(sent) - 72, 1)
    code = sent[76:]
    assert [port for port in range(65_536) if accepts(code, port)] == [3000]


def test_datagram_is_split_at_four_byte_boundaries() -> None:
    first = struct.pack("=IHHII", 21, 20, 2, 1, 0) + b"abcde" + bytes(3)
    second = struct.pack("=IHHII", 20, 3, 2, 1, 0) + bytes(4)
    assert list(split_messages(first + second)) == [(20, b"abcde"), (3, bytes(4))]


GIB = 1 << 30
MEMINFO = "MemTotal:       24683700 kB\nMemFree:        22818000 kB\n"


def test_reserve_and_builds_are_taken_off_and_the_rest_is_the_apps() -> None:
    division = Division(reserve_bytes=GIB, builds_at_once=2, build_bytes=2 * GIB)
    assert divide(24 * GIB, division) == Shares(
        apps_bytes=19 * GIB, builds_bytes=4 * GIB, build_bytes=2 * GIB
    )


def test_builds_have_no_more_than_apps_where_there_is_little() -> None:
    division = Division(reserve_bytes=GIB, builds_at_once=2, build_bytes=2 * GIB)
    assert divide(3 * GIB, division) == Shares(
        apps_bytes=GIB, builds_bytes=GIB, build_bytes=GIB // 2
    )


def test_reserve_that_leaves_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="memory_reserve_mib of 1024 leaves nothing of 1024 MiB"):
        divide(GIB, Division(reserve_bytes=GIB))


@given(
    total=st.integers(2, 1 << 45),
    reserve=st.integers(0, 1 << 45),
    at_once=st.integers(1, 64),
    build=st.integers(1, 1 << 40),
)
def test_shares_never_promise_more_than_there_is(
    total: int, reserve: int, at_once: int, build: int
) -> None:
    division = Division(reserve_bytes=reserve, builds_at_once=at_once, build_bytes=build)
    if reserve >= total:
        return
    shares = divide(total, division)
    assert shares.apps_bytes + shares.builds_bytes + reserve == total
    assert shares.build_bytes * at_once <= shares.builds_bytes <= shares.apps_bytes


@pytest.mark.parametrize(
    ("limit", "available"),
    [
        ("", 24683700 * 1024),  # the topmost group of version 2 has none
        ("max\n", 24683700 * 1024),
        ("9223372036854771712\n", 24683700 * 1024),
        ("2147483648\n", 2147483648),
    ],
)
def test_container_has_no_more_than_its_limit(limit: str, available: int) -> None:
    assert smaller_limit(MEMINFO, limit) == available


LIMITS = Limits(memory_bytes=536_870_912, cpu_millis=500, pids=128, disk_bytes=0)
HYBRID = """\
30 24 0:26 / /sys/fs/cgroup rw shared:1 - tmpfs tmpfs rw,mode=755
31 30 0:27 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
32 30 0:28 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct
33 30 0:29 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids
34 30 0:30 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
"""
UNIFIED = "35 24 0:31 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n"


def test_unified_hierarchy_is_version_2() -> None:
    found = find_hierarchy(UNIFIED, lambda mount: "cpuset cpu io memory hugetlb pids")
    assert found is not None
    assert found.version == 2
    assert found.roots == [Path("/sys/fs/cgroup")]


def test_hybrid_without_controllers_is_version_1() -> None:
    found = find_hierarchy(HYBRID, lambda mount: "")
    assert found == Hierarchy(
        1,
        {
            "memory": Path("/sys/fs/cgroup/memory"),
            "cpu": Path("/sys/fs/cgroup/cpu,cpuacct"),
            "cpuacct": Path("/sys/fs/cgroup/cpu,cpuacct"),
            "pids": Path("/sys/fs/cgroup/pids"),
        },
    )
    assert len(found.roots) == 3


def test_missing_controller_is_no_hierarchy() -> None:
    without_pids = "\n".join(line for line in HYBRID.splitlines() if "pids" not in line)
    assert find_hierarchy(without_pids, lambda mount: "") is None
    assert find_hierarchy(UNIFIED, lambda mount: "cpu memory") is None


def test_limits_of_version_2() -> None:
    assert limit_writes(2, LIMITS) == [
        ("memory", "memory.max", "536870912", True),
        ("memory", "memory.swap.max", "0", False),
        ("memory", "memory.oom.group", "1", True),
        ("cpu", "cpu.max", "50000 100000", True),
        ("pids", "pids.max", "128", True),
    ]


def test_limits_of_version_1_set_memory_before_memory_and_swap() -> None:
    assert limit_writes(1, LIMITS) == [
        ("memory", "memory.limit_in_bytes", "536870912", True),
        ("memory", "memory.memsw.limit_in_bytes", "536870912", False),
        ("memory", "memory.kmem.tcp.limit_in_bytes", "134217728", False),
        ("cpu", "cpu.cfs_period_us", "100000", True),
        ("cpu", "cpu.cfs_quota_us", "50000", True),
        ("pids", "pids.max", "128", True),
    ]


def test_shared_limits_of_version_2_leave_no_room_for_swap_nor_kill_the_whole_group() -> None:
    assert shared_writes(2, 1_000_000, 300) == [
        ("memory", "memory.max", "1000000", True),
        ("memory", "memory.swap.max", "0", False),
        ("pids", "pids.max", "300", True),
    ]


def test_shared_limits_of_version_1_count_sockets_in_and_can_be_set_again() -> None:
    """Memory with swap may never be less than memory, whichever way the limit changes."""
    assert shared_writes(1, 1_000_000, 300) == [
        ("memory", "memory.memsw.limit_in_bytes", "-1", False),
        ("memory", "memory.limit_in_bytes", "800000", True),
        ("memory", "memory.memsw.limit_in_bytes", "800000", False),
        ("memory", "memory.kmem.tcp.limit_in_bytes", "200000", False),
        ("pids", "pids.max", "300", True),
    ]


@pytest.mark.parametrize(
    ("text", "kills"),
    [
        ("low 0\nhigh 0\nmax 12\noom 3\noom_kill 2\noom_group_kill 1\n", 2),
        ("oom_kill_disable 0\nunder_oom 0\noom_kill 1\n", 1),
        ("oom_kill_disable 0\nunder_oom 0\n", 0),
    ],
)
def test_oom_kills_are_read_in_both_versions(text: str, kills: int) -> None:
    assert parse_oom_kills(text) == kills


@pytest.fixture
def unified(tmp_path: Path) -> Cgroups:
    """A directory with the files a kernel would make."""
    (tmp_path / "cgroup.subtree_control").write_text("")
    return Cgroups(Hierarchy(2, dict.fromkeys(("memory", "cpu", "pids"), tmp_path)), "moorage-ab12")


def test_version_2_enables_controllers_in_the_parent_then_in_its_own_groups(
    unified: Cgroups, tmp_path: Path
) -> None:
    unified.open()
    own = tmp_path / "moorage-ab12"
    for directory in (tmp_path, own, own / "apps", own / "builds", own / "services"):
        assert (directory / "cgroup.subtree_control").read_text() == "+memory +cpu +pids"


def test_version_2_moves_a_containers_processes_out_of_the_way(
    unified: Cgroups, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a kernel: a group with processes is busy, and a process is in one group only."""
    (tmp_path / "cgroup.procs").write_text("1\n0\n7\n")
    moved: list[str] = []
    write = Path.write_text

    def kernels_write(path: Path, text: str) -> int:
        if path == tmp_path / "init" / "cgroup.procs":
            moved.append(text)
            if text == "7":
                write(tmp_path / "cgroup.procs", "")
                raise ProcessLookupError
        elif path.parent == tmp_path and (tmp_path / "cgroup.procs").read_text():
            raise OSError(errno.EBUSY, "busy")
        return write(path, text)

    monkeypatch.setattr(Path, "write_text", kernels_write)
    unified.open()
    assert moved == ["1", "7"]
    assert (tmp_path / "cgroup.subtree_control").read_text() == "+memory +cpu +pids"


def test_version_2_group_is_one_directory(unified: Cgroups, tmp_path: Path) -> None:
    unified.open()
    assert unified.directories("apps/app-x") == [tmp_path / "moorage-ab12" / "apps" / "app-x"]
    assert unified.names() == set()
    assert unified.pids("apps/app-x") == []
    assert unified.oom_kills("apps/app-x") == 0
    assert not unified.exists("apps/app-x")


def test_groups_are_named_with_the_group_they_lie_in(unified: Cgroups, tmp_path: Path) -> None:
    unified.open()
    for name in ("apps/app-x", "builds/build-y", "services/proxy"):
        (tmp_path / "moorage-ab12" / name).mkdir()
    assert unified.names() == {"apps/app-x", "builds/build-y"}


def test_groups_of_an_earlier_layout_are_removed(unified: Cgroups, tmp_path: Path) -> None:
    (tmp_path / "moorage-ab12" / "app-x").mkdir(parents=True)
    unified.open()
    assert not (tmp_path / "moorage-ab12" / "app-x").exists()


def test_service_is_confined_where_its_limit_counts_it(unified: Cgroups, tmp_path: Path) -> None:
    unified.open()
    proxy = tmp_path / "moorage-ab12" / "services" / "proxy"
    proxy.mkdir()
    (proxy / "memory.max").touch()
    (proxy / "memory.current").write_text("0\n")
    unified.confine("proxy", 4711, memory_bytes=1_000_000)
    assert (proxy / "memory.max").read_text() == "1000000"
    assert (proxy / "cgroup.procs").read_text() == "4711"


def of_apps(tmp_path: Path, **files: str) -> Path:
    """The group of all apps, with the files that a kernel would make."""
    apps = tmp_path / "moorage-ab12" / "apps"
    written(apps, memory__max="9000000", memory__high="max", memory__current="5000000\n", **files)
    return apps


def test_version_2_limit_below_what_is_in_use_is_refused_instead_of_killing_for_it(
    unified: Cgroups, tmp_path: Path
) -> None:
    """The kernel's cgroup-v2.rst: where `memory.max` can't be reached, its killer is invoked."""
    apps = of_apps(tmp_path)
    with pytest.raises(OSError, match="5000000 bytes are in use") as refused:
        unified.limit_together("apps", memory_bytes=4_000_000, pids=300)
    assert refused.value.errno == errno.EBUSY
    assert (apps / "memory.max").read_text() == "9000000"
    assert (apps / "memory.high").read_text() == "max"


def test_version_2_limit_is_set_once_the_kernel_has_taken_back_what_it_can(
    unified: Cgroups, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    apps = of_apps(tmp_path)
    written_here: list[tuple[str, str]] = []
    write = Path.write_text

    def kernels_write(path: Path, text: str) -> int:
        written_here.append((path.name, text))
        if path.name == "memory.high":
            write(apps / "memory.current", "3000000\n")
        return write(path, text)

    monkeypatch.setattr(Path, "write_text", kernels_write)
    unified.limit_together("apps", memory_bytes=4_000_000, pids=300)
    assert written_here == [
        ("memory.high", "4000000"),
        ("memory.max", "4000000"),
        ("pids.max", "300"),
        ("memory.high", "max"),
    ]


def test_optional_limit_is_left_out_where_the_kernel_lacks_it(
    unified: Cgroups, tmp_path: Path
) -> None:
    unified.open()
    group = tmp_path / "moorage-ab12" / "app-x"
    group.mkdir()
    unified.limit("app-x", LIMITS)
    assert (group / "memory.max").read_text() == "536870912"
    assert not (group / "memory.swap.max").exists()


def written(directory: Path, **files: str) -> None:
    directory.mkdir(parents=True)
    for name, text in files.items():
        (directory / name.replace("__", ".")).write_text(text)


def test_usage_of_version_2_leaves_out_what_the_kernel_would_give_up(
    unified: Cgroups, tmp_path: Path
) -> None:
    written(
        tmp_path / "moorage-ab12" / "app-x",
        cpu__stat="usage_usec 2501999\nuser_usec 2000000\n",
        memory__current="9000000\n",
        memory__stat="anon 5\ninactive_file 4000000\nactive_file 7\n",
    )
    assert unified.usage("app-x") == Usage(cpu_ms=2501, memory_bytes=5_000_000)
    assert unified.usage("app-y") is None


def test_usage_of_version_1_is_counted_by_a_controller_of_its_own(tmp_path: Path) -> None:
    mounts = {name: tmp_path / name for name in ("memory", "cpu", "pids", "cpuacct")}
    group = Path("moorage-ab12") / "app-x"
    written(mounts["cpuacct"] / group, cpuacct__usage="3007999999\n")
    written(
        mounts["memory"] / group,
        memory__usage_in_bytes="9000000\n",
        memory__stat="inactive_file 1\ntotal_inactive_file 4000000\n",
    )
    cgroups = Cgroups(Hierarchy(1, mounts), "moorage-ab12")
    assert cgroups.usage("app-x") == Usage(cpu_ms=3007, memory_bytes=5_000_000)
    assert set(cgroups.directories("app-x")) == {mount / group for mount in mounts.values()}


async def test_work_that_failed_once_is_done_again() -> None:
    loop, done_again = asyncio.get_running_loop(), asyncio.Event()
    tries: list[int] = []

    def work() -> None:
        tries.append(len(tries))
        if len(tries) == 1:
            raise OSError("an app is on its way out")
        loop.call_soon_threadsafe(done_again.set)

    repeating = asyncio.create_task(repeat(work, every_seconds=0.001))
    async with asyncio.timeout(60):
        await done_again.wait()
    repeating.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await repeating
    assert tries[:2] == [0, 1]
