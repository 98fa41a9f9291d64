"""Uploaded code can't get out of a pod either: attempts of the table, by a running app.

The pod is the engine's own, run by runc as its manifest says. What a real cluster's own parts
refuse, its network plugin and its runtime's filter of system calls, is skipped and says so; that
they do is what `engines/kubernetes/self_test.py` finds out where a gateway starts. That each would
succeed outside is shown by `test_escape.py`, on the same made-up host.
"""

from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import arena
import pytest
import pytest_asyncio
from apps import LIMITS, Deployer, add_privileged_programs, ask, attempts, plan, upload
from threats import ALLOWED, FILES, HOST, KERNEL, NEIGHBOUR, PROCESSES, WORLD, Threat

from conftest import GATEWAY_SECRET, Host
from support.engines.fake_kubernetes.cluster import Cluster, started_cluster
from support.engines.kubernetes_engine_fixture import cluster_options, make_engine, opened_engine

pytestmark = pytest.mark.root

SECRET = "host-secret-52c9"
METADATA = frozenset({"world metadata", "world link-local", "metadata by datagram"})
NEIGHBOUR_SECRET = "neighbour-secret-77e0"
TOKEN = Threat(
    name="token of the cluster",
    run=("files.py", "read", "/var/run/secrets/kubernetes.io/serviceaccount/token"),
    refused=frozenset({"ENOENT"}),
)


def _in_pod(threat: Threat) -> Threat:
    """Without /run, which is the app's own, in memory."""
    return replace(threat, run=tuple(part for part in threat.run if part != "/run"))


_PLUGIN = "the network plugin decides, by the policies of the wallet's namespace"
_FILTER = "the runtime's own filter of system calls decides (RuntimeDefault)"
#: What the parts of a real cluster decide, which the fake one does not play.
ELSEWHERE = {
    **dict.fromkeys(
        (
            "host service on its address",
            "host service on the gateway",
            "host datagram service",
            "host datagrams on the gateway",
            "host by broadcast and multicast",
            "doors",
            "neighbour's port",
            *(threat.name for threat in WORLD if threat.name not in METADATA),
        ),
        _PLUGIN,
    ),
    **dict.fromkeys(
        (
            "new user namespace",
            "process in a new user namespace",
            "process in a new user namespace by clone3",
            "user namespace by 32-bit call",
            "user namespace from Node",
            "io_uring",
            "asynchronous I/O",
            "huge pages",
            "add_key",
            "personality",
            "vsock",
            "vsock by 32-bit call",
            "socket of another family",
            "socket of another type",
            "netlink besides routes",
        ),
        _FILTER,
    ),
    "processes without end": "the kubelet bounds a pod's processes (podPidsLimit)",
    "what the machine does": "the runtime masks files of /proc and /sys by its own choice",
    "root's home": "it is the image's own, and empty",
}
#: Of another kind than elsewhere: without capabilities, no option of a packet can be set.
ALSO_REFUSED = {"source routing": "EPERM"}
FILLING = tuple(
    Threat(
        name=f"more than fits into {directory}",
        run=("exhaust.py", "disk", directory, "80"),
        refused=frozenset({refused}),
    )
    for directory, refused in (
        *dict.fromkeys(("/tmp", "/run", "/var/tmp", "/dev/shm"), "ENOSPC").items(),
        ("/dev", "EACCES"),
    )
)
PROCESSES_WITHOUT_END = Threat(
    name="processes without end", run=("exhaust.py", "fork", "200"), refused=frozenset({"EAGAIN"})
)
THREATS = (
    TOKEN,
    *FILLING,
    PROCESSES_WITHOUT_END,
    *HOST,
    *WORLD,
    *NEIGHBOUR,
    *map(_in_pod, FILES),
    *PROCESSES,
    *KERNEL,
)


@pytest.fixture(scope="module")
def hosts_cluster(host: Host) -> Iterator[Cluster]:
    """A cluster on the made-up host, whose node has a secret in its environment."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GATEWAY_SECRET", GATEWAY_SECRET)
        with started_cluster() as cluster:
            yield cluster


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def results(
    host: Host, hosts_cluster: Cluster, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[dict[str, dict[str, Any]]]:
    """The result of each attempt, by its name."""
    directory = tmp_path_factory.mktemp("pods")
    options = cluster_options(hosts_cluster, app=LIMITS)
    made = make_engine(hosts_cluster, directory / "state", options=options)
    async with opened_engine(made) as engine:
        deployer = Deployer(engine)
        neighbour = await deployer.deploy("neighbour", _files(directory, "next"), plan())
        source = _files(directory, "source")
        add_privileged_programs(source)
        app = await deployer.deploy("attacker", source, plan())
        with arena.victim(SECRET) as victim, arena.shared_memory() as memory_key:
            (host.directory / "secret").write_text(SECRET)
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
                "neighbour_abstract": f"@{(await ask(neighbour))['abstract']}",
                "neighbour_secret": NEIGHBOUR_SECRET,
                "neighbour_secret_backwards": NEIGHBOUR_SECRET[::-1],
                "neighbour_secret_path": str(next(hosts_cluster.directory.rglob("next.txt"))),
                "state": str(directory / "state"),
                "database": str(hosts_cluster.directory / "config"),
                "run": str(hosts_cluster.directory),
                "secret_path": str(host.directory / "secret"),
                "host_secret": SECRET,
                "host_secret_backwards": SECRET[::-1],
                "gateway_secret_backwards": GATEWAY_SECRET[::-1],
                "victim": victim.pid,
                "victim_address": str(victim.address),
                "shared_memory": str(memory_key),
                "first_process": "1",
                "root": "/",
                "system_file": "/usr/bin/env",
                "app": "/app",
                "scratch": "/tmp",
                "chroot_evidence": str(host.directory / "secret"),
            }
            everything = (*THREATS, *ALLOWED)
            lines = [[part.format_map(facts) for part in each.run] for each in everything]
            found = await attempts(app, lines)
        yield dict(zip((each.name for each in everything), found, strict=True))


def _files(directory: Path, name: str) -> Path:
    path = directory / name
    path.mkdir()
    return upload(path, own="own", **{name: NEIGHBOUR_SECRET if name == "next" else ""})


@pytest.mark.parametrize("threat", THREATS, ids=lambda each: each.name)
def test_pod_keeps_an_app_in(results: dict[str, dict[str, Any]], threat: Threat) -> None:
    if (why := ELSEWHERE.get(threat.name)) is not None:
        pytest.skip(f"in a cluster: {why}")
    result = results[threat.name]
    assert not result["succeeded"], f"got out: {result['detail']}"
    assert result["detail"] in threat.refused | {ALSO_REFUSED.get(threat.name)}


@pytest.mark.parametrize("allowed", ALLOWED, ids=lambda each: each.name)
def test_app_in_a_pod_can_do_what_it_may(
    results: dict[str, dict[str, Any]], allowed: Threat
) -> None:
    assert results[allowed.name]["succeeded"], results[allowed.name]["detail"]
