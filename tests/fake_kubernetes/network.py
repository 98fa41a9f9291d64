"""The node's network: each pod has a network namespace and an address that the test can dial."""

import asyncio
import os
import signal
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from fake_kubernetes.commands import run

_RULES = """\
table ip {name} {{
  chain leaving {{
    type nat hook postrouting priority srcnat; policy accept;
    ip saddr {subnet} ip daddr != {subnet} masquerade
  }}
  chain passing {{
    type filter hook forward priority filter; policy accept;
    ip saddr {subnet} ip daddr 169.254.0.0/16 reject
  }}
}}
"""


@dataclass
class Sandbox:
    """What the containers of a pod share: namespaces of network, IPC and host name."""

    address: str
    holder: asyncio.subprocess.Process

    def namespace(self, kind: str) -> str:
        return f"/proc/{self.holder.pid}/ns/{kind}"


@dataclass
class Network:
    """A /24 of its own for the cluster's pods; .1 is this machine, as pods see it.

    Network policies are not played, but that no pod reaches the metadata of a cloud.
    """

    name: str  # of its rules
    prefix: str = ""
    taken: set[str] = field(default_factory=set)

    @property
    def host(self) -> str:
        return f"{self.prefix}.1"

    def open(self) -> None:
        """Claims a subnet that no other cluster on this machine has."""
        for number in range(os.getpid() % 200, os.getpid() % 200 + 256):
            self.prefix = f"100.126.{number % 256}"
            words = ("ip", "address", "add", f"{self.host}/32", "dev", "lo")
            if subprocess.run(words, capture_output=True, check=False).returncode == 0:
                break
        else:
            raise RuntimeError("no subnet is free")
        Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
        rules = _RULES.format(name=self.name, subnet=f"{self.prefix}.0/24")
        subprocess.run(["nft", "-f", "-"], input=rules.encode(), check=True)

    async def attach(self, host_name: str) -> Sandbox:
        """Makes the namespaces of a pod, and gives it an address."""
        address = next(
            found
            for number in range(2, 255)
            if (found := f"{self.prefix}.{number}") not in self.taken
        )
        self.taken.add(address)
        holder = await asyncio.create_subprocess_exec(
            *("setpriv", "--pdeathsig", "KILL", "unshare", "--net", "--ipc", "--uts"),
            *("sh", "-c", 'hostname "$1"; echo; exec sleep infinity', "sh", host_name),
            stdout=asyncio.subprocess.PIPE,
        )
        assert holder.stdout is not None
        await holder.stdout.readline()
        await self._wire(address, holder.pid)
        return Sandbox(address, holder)

    async def _wire(self, address: str, pid: int) -> None:
        name = f"mk{pid}"
        await run(
            *("ip", "-batch", "-"),
            stdin=f"link add {name} type veth peer name eth0 netns {pid}\n"
            f"link set {name} up\n"
            f"route add {address}/32 dev {name} src {self.host}\n",
        )
        await run(
            *("nsenter", f"--net=/proc/{pid}/ns/net", "ip", "-batch", "-"),
            stdin=f"address add {address}/32 dev eth0\n"
            "link set lo up\n"
            "link set eth0 up\n"
            f"route add {self.host}/32 dev eth0\n"
            f"route add default via {self.host}\n",
        )

    async def detach(self, sandbox: Sandbox) -> None:
        """Ends a pod's namespaces, and its address with them."""
        sandbox.holder.send_signal(signal.SIGKILL)
        await sandbox.holder.wait()
        self.taken.discard(sandbox.address)
