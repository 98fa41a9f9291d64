"""What the Docker engine asks of Docker, of the packet filter and of systemd, as data."""

import asyncio
import io
import tarfile
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from moorage.engines.docker import app, network
from moorage.engines.docker.app import how_it_ended
from moorage.engines.docker.container import (
    Surroundings,
    container,
    container_name,
    group_of,
    parent,
    scratch,
    settled,
    slice_limits,
)
from moorage.engines.docker.deployment_directory import Record
from moorage.engines.docker.output import split_frames
from moorage.engines.dockerd import firewall
from moorage.engines.dockerd.daemon import (
    Daemon,
    connect_anywhere,
    first_file,
    lacking,
    socket_path,
)
from moorage.engines.engine import AppExit, InstanceSpec, Limits
from moorage.engines.host.deployment_directory import Stage
from moorage.engines.images.image import numeric_user
from moorage.engines.images.recipe import environment
from moorage.errors import ConfigurationInvalid, DeployFailed
from moorage.planning.plan import Plan, Stack

PLAN = Plan(
    stack=Stack.NODE, directory="", install=None, build=None, start="node index.js", port=3000,
    build_env={"AT_BUILD": "yes"}, run_env={"AT_RUN": "yes", "BOTH": "plan"}, because=(),
)  # fmt: skip
SPEC = InstanceSpec(
    deployment_id="d1",
    plan=PLAN,
    limits=Limits(memory_bytes=256 << 20, cpu_millis=500, pids=128, disk_bytes=1 << 30),
    variables={"BOTH": "deployer"},
)
AROUND = Surroundings(
    instance_id="ab12cd",
    network="moorage-ab12cd",
    cgroup_parent="/moorage-ab12cd/apps",
    resolvers=("9.9.9.9",),
    oom_score=500,
)
ABLE = {
    "MemoryLimit": True, "SwapLimit": True, "PidsLimit": True, "CpuCfsQuota": True,
    "SecurityOptions": ["name=seccomp,profile=builtin"], "ServerVersion": "26.1.5+dfsg1",
}  # fmt: skip


def test_container_has_no_rights_and_hard_limits() -> None:
    made = container(SPEC, "image:tag", AROUND, data=None)
    assert made["HostConfig"] == {
        "NetworkMode": "moorage-ab12cd",
        "CgroupParent": "/moorage-ab12cd/apps",
        "Dns": ["9.9.9.9"],
        "Memory": 256 << 20,
        "MemorySwap": 256 << 20,
        "NanoCpus": 1_000_000_000,  # a whole core until it listens
        "PidsLimit": 128,
        "Ulimits": [{"Name": "core", "Soft": 1, "Hard": 1}],  # no core_pattern program as root
        "OomScoreAdj": 500,
        "CapDrop": ["ALL"],
        "SecurityOpt": ["no-new-privileges:true"],
        "Privileged": False,
        "ReadonlyRootfs": True,
        "Tmpfs": {
            "/tmp": "rw,noexec,nosuid,nodev,mode=1777,size=64m",
            "/run": "rw,noexec,nosuid,nodev,mode=1777,size=16m",
            "/var/tmp": "rw,noexec,nosuid,nodev,mode=1777,size=16m",
        },
        "ShmSize": 64 << 20,
        "Init": True,
        "Sysctls": {"net.ipv6.conf.all.disable_ipv6": "1"},
        "Mounts": [],
        "Binds": [],
        "RestartPolicy": {"Name": "no"},
        "LogConfig": {"Type": "json-file", "Config": {"max-size": "10m", "max-file": "2"}},
    }
    assert (made["Image"], made["Labels"]) == (
        "image:tag",
        {"moorage.instance": "ab12cd", "moorage.deployment": "d1"},
    )
    assert "Cmd" not in made  # the image says what runs
    assert made["Healthcheck"] == {"Test": ["NONE"]}  # but not how often Docker looks at it
    assert settled(500) == {"NanoCpus": 500_000_000}


def test_volume_is_bound_to_its_place() -> None:
    spec = replace(SPEC, volume="shop")
    made = container(spec, "image:tag", AROUND, data=Path("/run/moorage/ab12cd/volumes/shop/d1"))
    assert made["HostConfig"]["Binds"] == ["/run/moorage/ab12cd/volumes/shop/d1:/data"]
    assert "DATA_DIR=/data" in made["Env"]


def test_volumes_of_an_image_are_in_memory_where_nothing_else_is() -> None:
    named = {"Volumes": dict.fromkeys(["/db/", "//a/../b", "/data", "/tmp", "/db"])}
    made = container(SPEC, "i:t", AROUND, data=Path("/v"), scratch=scratch(named))
    assert made["HostConfig"]["Mounts"] == [
        {"Type": "tmpfs", "Target": path, "TmpfsOptions": {"SizeBytes": 16 << 20, "Mode": 0o1777}}
        for path in ("/b", "/db")
    ]
    assert scratch({"Volumes": None}) == scratch({}) == []
    for refused in (["a"], [f"/{number}" for number in range(33)]):
        with pytest.raises(DeployFailed, match="VOLUME"):
            scratch({"Volumes": dict.fromkeys(refused)})


def tar(entry: tarfile.TarInfo, content: bytes = b"") -> bytes:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w", format=tarfile.PAX_FORMAT) as made:
        entry.size = len(content)
        made.addfile(entry, io.BytesIO(content))
    return archive.getvalue()


def test_beginning_of_a_file_is_read_whatever_was_cut_off() -> None:
    entry, link = tarfile.TarInfo("passwd"), tarfile.TarInfo("passwd")
    entry.pax_headers = {"comment": "x" * 100}
    link.type, link.linkname = tarfile.SYMTYPE, "/elsewhere"
    whole = tar(entry, b"root:x:0:0\n" * 1000)
    assert first_file(whole) == b"root:x:0:0\n" * 1000
    assert first_file(whole[:3000]).startswith(b"root:x:0:0\n")
    assert [first_file(it) for it in (tar(link), whole[:100], b"")] == [b"", b"", b""]


def test_deployers_variables_win_and_none_of_the_build_is_there() -> None:
    assert environment(SPEC) == {
        "PORT": "3000",
        "HOST": "0.0.0.0",
        "NODE_ENV": "production",
        "PYTHONUNBUFFERED": "1",
        "AT_RUN": "yes",
        "BOTH": "deployer",
    }


def test_container_is_named_the_same_each_time_and_tells_no_deployment() -> None:
    name = container_name("ab12cd", "d1")
    assert name == container_name("ab12cd", "d1")
    assert name.startswith("moorage-ab12cd-")
    assert "d1" not in name.removeprefix("moorage-ab12cd-")
    assert len({name, container_name("ab12cd", "d2"), container_name("ab12ce", "d1")}) == 3


@pytest.mark.parametrize(
    ("user", "uid"),
    [
        ("", 0),
        ("²", 0),
        ("1000", 1000),
        ("1000:50", 1000),
        ("node", 1001),
        ("node:staff", 1001),
        ("x", 0),
    ],
)
def test_users_id_is_the_number_or_that_of_the_images_passwd(user: str, uid: int) -> None:
    passwd = "root:x:0:0::/root:/bin/sh\nnode:x:1001:1001::/home/node:/bin/sh\n"
    assert numeric_user(user, passwd) == uid


def test_apps_share_a_bridge_that_the_firewall_knows_by_name() -> None:
    made = network.network("ab12cd", "10.201.0.0/16")
    assert made["IPAM"] == {"Config": [{"Subnet": "10.201.0.0/16"}]}
    assert made["EnableIPv6"] is False
    assert made["Options"]["com.docker.network.bridge.name"] == "moab12cd-br"
    assert made["Options"]["com.docker.network.bridge.enable_icc"] == "false"


def test_what_one_app_sends_to_another_is_dropped_on_the_bridge() -> None:
    rules = firewall.bridge_rules("ab12cd", "10.201.0.0/16", builds=())
    assert rules.startswith("table bridge moorage_ab12cd {}\ndelete table bridge moorage_ab12cd\n")
    assert "type filter hook forward" in rules
    assert "ip saddr 10.201.0.0/16 drop" in rules


async def test_end_that_docker_does_not_note_is_told_without_its_code(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Stuck:
        """A container whose process has ended, and Docker says that it runs."""

        async def wait(self) -> None:
            await asyncio.Event().wait()

        async def show(self) -> dict[str, object]:
            return {"State": {"Status": "running", "ExitCode": 0, "OOMKilled": False}}

    monkeypatch.setattr(app, "NOTED_SECONDS", 0.0)
    containers = SimpleNamespace(container=lambda _: Stuck())
    daemon = cast("Daemon", SimpleNamespace(docker=SimpleNamespace(containers=containers)))
    record = Record(deployment_id="d1", stage=Stage.STARTED, container_id="c1")
    assert await app.exit_of(daemon, record) == AppExit(exit_code=None, out_of_memory=False)


def test_no_frame_passes_between_builds_on_dockers_own_bridge() -> None:
    rules = firewall.bridge_rules("ab12cd", "10.201.0.0/16", builds=("172.17.0.0/16",))
    for field in ("ip saddr", "ip daddr", "arp saddr ip", "arp daddr ip"):
        assert f"    {field} 172.17.0.0/16 drop\n" in rules


def test_network_has_room_for_its_addresses_and_for_no_more_than_a_bridge() -> None:
    assert network.max_apps("10.201.0.0/24") == 253
    assert network.max_apps("10.201.0.0/16") == 1000


def test_parent_of_containers_is_a_slice_under_systemd() -> None:
    assert parent("ab12cd", "apps", systemd=False) == "/moorage-ab12cd/apps"
    assert parent("ab12cd", "apps", systemd=True) == "moorage-ab12cd-apps.slice"
    assert slice_limits("ab12cd", "apps", 1 << 30) == [
        "systemctl", "set-property", "--runtime", "moorage-ab12cd-apps.slice",
        "MemoryMax=1073741824", "MemorySwapMax=0", "TasksMax=75%",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "group"),
    [
        ("0::/moorage.slice/docker-1.scope\n", "moorage.slice/docker-1.scope"),
        ("5:pids:/other\n4:memory:/moorage-ab/apps/1\n0::/\n", "moorage-ab/apps/1"),
        ("5:pids:/other\n", None),
    ],
)
def test_containers_group_is_that_of_its_memory(text: str, group: str | None) -> None:
    assert group_of(text) == group


def test_daemon_that_can_all_lacks_nothing() -> None:
    assert lacking(ABLE, 1) == lacking({**ABLE, "ServerVersion": "28.0.0"}, 1)
    assert not [it for it in lacking(ABLE, 1) if "gateway does not see" not in it]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"MemoryLimit": False}, "can't limit memory"),
        ({"PidsLimit": False}, "can't limit processes"),
        ({"CpuCfsQuota": False}, "can't limit processor time"),
        ({"SecurityOptions": []}, "filters no system calls"),
        ({"SecurityOptions": ["name=seccomp", "name=rootless"]}, "runs without root"),
        ({"ServerVersion": "20.10.24"}, "older than 24"),
    ],
)
def test_daemon_that_can_not_isolate_is_refused(change: dict[str, object], said: str) -> None:
    found = set(lacking({**ABLE, **change}, 1)) - set(lacking(ABLE, 1))
    assert [it for it in found if said in it]
    assert len(found) == 1


def test_podman_is_told_from_docker_whatever_it_claims() -> None:
    """As Podman 5.4 answers without root, where it applies none of these limits."""
    podman = {
        **ABLE,
        "ServerVersion": "5.4.2",
        "BuildahVersion": "1.39.3",
        "SecurityOptions": ["name=seccomp,profile=default", "name=rootless"],
    }
    (said,) = lacking(podman, 1)
    assert "this is Podman" in said
    assert "docker_host" in said


@pytest.mark.parametrize("host", ["tcp://10.0.0.1:2375", "unix://relative", "", "ssh://machine"])
def test_daemon_elsewhere_is_refused(host: str) -> None:
    with pytest.raises(ConfigurationInvalid):
        socket_path(host)
    assert socket_path("unix:///var/run/docker.sock") == Path("/var/run/docker.sock")


@pytest.mark.parametrize("host", ["unix://relative", "tcp://", "ssh://machine", "10.0.0.1:2376"])
async def test_builder_that_is_named_wrong_is_told_by_its_own_setting(host: str) -> None:
    with pytest.raises(ConfigurationInvalid, match=r"kubernetes_builder: .* tcp://host:port"):
        await connect_anywhere(host, "")


def test_output_is_split_into_frames_wherever_it_is_cut() -> None:
    whole = b"\1\0\0\0\0\0\0\2ab" + b"\2\0\0\0\0\0\0\3cde"
    for cut in range(len(whole) + 1):
        first, rest = split_frames(whole[:cut])
        second, left = split_frames(rest + whole[cut:])
        assert first + second == [(1, b"ab"), (2, b"cde")]
        assert left == b""


@pytest.mark.parametrize(
    ("state", "ended"),
    [
        ({"Status": "exited", "ExitCode": 7}, AppExit(exit_code=7, out_of_memory=False)),
        (
            {"Status": "exited", "ExitCode": 137, "OOMKilled": True},
            AppExit(exit_code=137, out_of_memory=True),
        ),
        ({"Status": "created", "ExitCode": 0}, AppExit(exit_code=None, out_of_memory=False)),
    ],
)
def test_end_is_what_docker_says(state: dict[str, object], ended: AppExit) -> None:
    assert how_it_ended(state) == ended
