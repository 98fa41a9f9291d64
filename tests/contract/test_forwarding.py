"""How visitors reach an app in a real sandbox, and who does not."""

import json
import subprocess
from pathlib import Path

import pytest

from moorage.address import Address
from moorage.engines.engine import Keep
from moorage.engines.sandbox.sandbox import Sandbox
from support.engines.sandbox_fixture import make_sandbox, opened
from support.engines.small_apps import SERVER, build, build_and_start, fetch, is_open, plan, start

pytestmark = [pytest.mark.root, pytest.mark.spread("forwarding")]

NOBODY = "65534"
TRACKED = Path("/proc/net/nf_conntrack")
# Tells its visitors whom it sees, and sends a thousand datagrams to ports of its own for each.
SEEN = """\
const sender = require('dgram').createSocket('udp4');
require('http').createServer((request, response) => {
  for (let port = 20000; port < 21000; port++) sender.send('x', port, '127.0.0.1');
  response.end(JSON.stringify([request.socket.remoteAddress, request.socket.localPort]));
}).listen(process.env.PORT, %s);
"""


def dial(address: Address | None, *prefix: str) -> bool:
    """Whether a process on this machine gets a connection to an address."""
    host, _, port = str(address).rpartition(":")
    trial = f"exec 3<>/dev/tcp/{host}/{port}"
    argv = [*prefix, "bash", "-c", trial]
    return subprocess.run(argv, check=False, stderr=subprocess.DEVNULL).returncode == 0


@pytest.mark.parametrize("listens_on", ["'127.0.0.1'", "'0.0.0.0'", "'::'"])
async def test_app_sees_visitors_come_from_beside_it(
    sandbox: Sandbox, source: Path, listens_on: str
) -> None:
    (source / "index.js").write_text(SEEN % listens_on)
    instance = await build_and_start(sandbox, source, plan())
    seen, port = json.loads(await fetch(instance.address))
    assert (seen.removeprefix("::ffff:"), port) == ("127.0.0.1", 3000)


async def test_one_port_of_an_app_is_open_to_the_hosts_root_alone(
    sandbox: Sandbox, source: Path
) -> None:
    (source / "index.js").write_text(SEEN % "'0.0.0.0'")
    instance = await build_and_start(sandbox, source, plan())
    host = str(instance.address).partition(":")[0]
    assert dial(instance.address)
    assert not dial(Address(f"{host}:3000"))
    assert not dial(instance.address, "setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}",
                    "--clear-groups")  # fmt: skip


async def test_kernel_remembers_only_visitors_connections_of_an_app(
    sandbox: Sandbox, source: Path
) -> None:
    (source / "index.js").write_text(SEEN % "'127.0.0.1'")
    instance = await build_and_start(sandbox, source, plan())
    for _ in range(3):
        await fetch(instance.address)
    (network,) = Path("/run/netns").glob(f"mo{sandbox.instance_id}-*")
    counted = "/proc/sys/net/netfilter/nf_conntrack_count"
    said = subprocess.check_output(["nsenter", f"--net={network}", "cat", counted])
    assert int(said) <= 10  # the visitors', and some of the start; of the datagrams none


async def test_address_of_an_app_that_is_gone_does_not_lead_to_the_next_one_there(
    sandbox: Sandbox, source: Path
) -> None:
    (source / "index.js").write_text(SERVER % "process.env.PORT")
    gone = (await build_and_start(sandbox, source, plan())).address
    await sandbox.stop("first", keep=Keep.NOTHING)
    assert not await is_open(gone)
    await build(sandbox, source, plan(), deployment_id="second")
    following = (await start(sandbox, plan(), deployment_id="second")).address
    # Where it would be asked if it had the same network; another gateway here may have taken that.
    late = Address(f"{str(following).partition(':')[0]}:{str(gone).partition(':')[2]}")
    assert late != following
    assert await fetch(following) == "hello"
    assert not await is_open(late)


async def test_kernel_refuses_addresses_that_no_app_has_while_the_gateway_is_open(
    tmp_path: Path,
) -> None:
    """Else a route that is older than a reboot would ask whoever is behind the default route."""
    runtime = make_sandbox(tmp_path / "state")
    metric = str(1_000_000 + int(runtime.instance_id, 16))
    async with opened(runtime):
        assert metric in refused_networks()
        assert not await is_open(Address("10.201.63.254:80"))
    assert metric not in refused_networks()


def refused_networks() -> str:
    return subprocess.check_output(["ip", "route", "show", "type", "unreachable"], text=True)


@pytest.mark.skipif(not TRACKED.exists(), reason="this kernel does not show its connections")
async def test_host_soon_forgets_the_connections_that_an_app_ends(
    sandbox: Sandbox, source: Path
) -> None:
    (source / "index.js").write_text(SERVER % "process.env.PORT")
    instance = await build_and_start(sandbox, source, plan())
    host, _, port = str(instance.address).rpartition(":")
    ended: list[list[str]] = []
    for _ in range(1_000):  # as the app takes its time to hang up as well
        assert dial(instance.address)  # and hangs up at once
        visits = [line for line in TRACKED.read_text().splitlines() if f"dport={port} " in line]
        ended = [line.split() for line in visits if f"dst={host} " in line and "TIME_WAIT" in line]
        if ended:
            break
    assert ended
    assert max(int(fields[4]) for fields in ended) <= 10, ended
