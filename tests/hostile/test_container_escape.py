"""Uploaded code can't get out of a container either: attempts by a running app and by a build.

The build is BuildKit's, as the shared builder has it for Docker and for a cluster.

That each would succeed outside is shown by `test_escape.py`, on the same made-up host.
"""

import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import arena
import pytest
import pytest_asyncio
from apps import Deployer, ask, attempts, attempts_by_build, plan, upload
from threats import HOST, KERNEL, NEIGHBOUR, PROCESSES, WORLD

from conftest import GATEWAY_SECRET, Host
from support.engines.docker_fixture import (
    Dockerd,
    import_base,
    make_docker,
    opened_docker,
    started_dockerd,
)

pytestmark = [pytest.mark.root, pytest.mark.asyncio(loop_scope="module")]

SECRET = "host-secret-52c9"
#: What Docker's own filter of system calls lets pass, as it is of no avail without capabilities.
LET_PASS = frozenset(
    {"asynchronous I/O", "huge pages", "netlink besides routes", "socket of another type"}
)
THREATS = [
    threat
    for threat in (*HOST, *WORLD, *NEIGHBOUR[:1], *PROCESSES, *KERNEL)
    if threat.run[0] != "attempts.js" and threat.name not in LET_PASS
]
ALLOWED = ("network.py", "tcp", arena.PUBLIC_ADDRESS, "80")


@pytest.fixture(scope="module")
def hosts_dockerd(host: Host) -> Iterator[Dockerd]:
    """A daemon on the made-up host, with a secret in its environment, as the gateway has one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GATEWAY_SECRET", GATEWAY_SECRET)
        yield from _begun(host)


def _begun(host: Host) -> Iterator[Dockerd]:
    with started_dockerd(f"/proc/{os.getpid()}/fd/{host.network}") as started:
        import_base(started, with_python=True)
        yield started


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def results(
    host: Host, hosts_dockerd: Dockerd, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[dict[str, dict[str, Any]]]:
    """The result of each attempt, by who made it and by its name."""
    directory = tmp_path_factory.mktemp("docker")
    async with opened_docker(make_docker(hosts_dockerd, directory / "state")) as engine:
        deployer = Deployer(engine)
        neighbour = await deployer.deploy("neighbour", upload(_new(directory, "next")), plan())
        source = upload(_new(directory, "source"), own="own")
        app = await deployer.deploy("attacker", source, plan())
        with arena.victim(SECRET) as victim, arena.shared_memory() as memory_key:
            facts = {
                **host.facts,
                **arena.FORBIDDEN,
                **arena.FORBIDDEN6,
                "public": arena.PUBLIC_ADDRESS,
                "host": arena.HOST_ADDRESS,
                "host6": arena.HOST_ADDRESS6,
                "gateway": "gateway",
                "gateway_or_host": "gateway",
                "door": str(app.address),
                "neighbour_door": str(neighbour.address),
                "neighbour": (await ask(neighbour))["address"],
                "host_secret": SECRET,
                "gateway_secret_backwards": GATEWAY_SECRET[::-1],
                "victim": victim.pid,
                "victim_address": str(victim.address),
                "shared_memory": str(memory_key),
                "first_process": "1",
                "app": "/app",
                "scratch": "/tmp",
                "chroot_evidence": str(host.directory / "secret"),
            }
            lines = [[part.format_map(facts) for part in threat.run] for threat in THREATS]
            lines.append(list(ALLOWED))
            by_app = await attempts(app, lines)
            by_build = await attempts_by_build(deployer, source, lines)
        names = [*(threat.name for threat in THREATS), "allowed"]
        yield {
            "app": dict(zip(names, by_app, strict=True)),
            "build": dict(zip(names, by_build, strict=True)),
        }


def _new(directory: Path, name: str) -> Path:
    path = directory / name
    path.mkdir()
    return path


@pytest.mark.parametrize("phase", ["app", "build"])
async def test_container_keeps_an_app_and_a_build_in(
    phase: str, results: dict[str, dict[str, Any]]
) -> None:
    made = results[phase]
    if phase == "build":  # has none, but BuildKit bounds commands as Docker does by default
        assert "'CapEff': '0000000000000000'" in made.pop("capabilities")["detail"]
    assert made.pop("allowed")["succeeded"]  # else the refusals would show nothing
    assert {name: each["detail"] for name, each in made.items() if each["succeeded"]} == {}
