"""The node's network: each pod has a network namespace and an address that the test can dial."""

import asyncio
import os
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path


async def run(*words: str, stdin: str = "") -> str:
    """What a command prints. Raises RuntimeError with its words if it fails."""
    process = await asyncio.create_subprocess_exec(
        *words,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await process.communicate(stdin.encode())
    if process.returncode:
        raise RuntimeError(f"{' '.join(words)}: {said.decode(errors='replace')}")
    return said.decode()


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
class Network:
    """A /24 of its own for the cluster's pods; .1 is this machine, as pods see it.

    Network policies are not played, but that no pod reaches the metadata of a cloud.
    """

    name: str  # of its rules
    prefix: str = ""
    taken: set[str] = field(default_factory=set)
    numbers: Iterator[int] = field(default_factory=count)  # an address is not soon given again

    @property
    def host(self) -> str:
        return f"{self.prefix}.1"

    @property
    def subnet(self) -> str:
        return f"{self.prefix}.0/24"

    def open(self) -> None:
        """Claims a subnet that no other cluster on this machine has."""
        for number in range(os.getpid() % 200, os.getpid() % 200 + 256):
            self.prefix = f"100.126.{number % 256}"
            words = ("ip", "address", "add", f"{self.host}/32", "dev", "lo")
            if subprocess.run(words, capture_output=True, check=False).returncode == 0:
                break
        else:
            raise RuntimeError("no subnet is free")
        # Of an address that no pod has, nothing leaves this machine.
        subprocess.run(["ip", "route", "add", "unreachable", self.subnet], check=True)
        Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
        rules = _RULES.format(name=self.name, subnet=self.subnet)
        subprocess.run(["nft", "-f", "-"], input=rules.encode(), check=True)

    def sandbox(self) -> "Sandbox":
        """What a pod's containers will share, with an address of its own."""
        while True:
            address = f"{self.prefix}.{2 + next(self.numbers) % 253}"
            if address not in self.taken:
                self.taken.add(address)
                return Sandbox(self, address)


@dataclass
class Sandbox:
    """What the containers of a pod share: namespaces of network, IPC and host name."""

    network: Network
    address: str
    holder: asyncio.subprocess.Process | None = None

    def namespace(self, kind: str) -> str:
        assert self.holder is not None
        return f"/proc/{self.holder.pid}/ns/{kind}"

    async def open(self, host_name: str) -> None:
        """Makes the namespaces, and wires them to the node."""
        self.holder = await asyncio.create_subprocess_exec(
            *("setpriv", "--pdeathsig", "KILL", "unshare", "--net", "--ipc", "--uts"),
            *("sh", "-c", 'hostname "$1"; echo; exec sleep infinity', "sh", host_name),
            stdout=asyncio.subprocess.PIPE,
        )
        assert self.holder.stdout is not None
        await self.holder.stdout.readline()
        pid, host = self.holder.pid, self.network.host
        await run(
            *("ip", "-batch", "-"),
            stdin=f"link add mk{pid} type veth peer name eth0 netns {pid}\n"
            f"link set mk{pid} up\n"
            f"route add {self.address}/32 dev mk{pid} src {host}\n",
        )
        await run(
            *("nsenter", f"--net=/proc/{pid}/ns/net", "ip", "-batch", "-"),
            stdin=f"address add {self.address}/32 dev eth0\n"
            "link set lo up\n"
            "link set eth0 up\n"
            f"route add {host}/32 dev eth0\n"
            f"route add default via {host}\n",
        )

    async def close(self) -> None:
        """Ends the namespaces, and with them the address."""
        if self.holder is not None:
            self.holder.kill()
            await self.holder.communicate()
            with suppress(RuntimeError):  # its end of the wire goes with the namespace, later
                await run("ip", "link", "delete", f"mk{self.holder.pid}")
        self.network.taken.discard(self.address)
