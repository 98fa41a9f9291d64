"""A gateway in a container of its own is killed; the next container has its volume alone."""

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest

from support.chains.chain_fixture import LocalChains
from support.clients.wallet import Wallet, fresh_name
from support.gateway.served import ServedGateway, ended
from support.gateway.waiting import until_read

pytestmark = pytest.mark.root

CONTAINER = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc")
CROWDED = """
import subprocess, sys, threading
threading.stack_size(65536)
for _ in range(1000):
    threading.Thread(target=threading.Event().wait, daemon=True).start()
sys.exit(subprocess.run(sys.argv[1:]).returncode)
"""
"""Runs a program where every process id that a start has reached is a thread's."""


def end_container(gateway: ServedGateway) -> None:
    """Kill its first process: the kernel ends all others before that one has ended."""
    (first,) = Path(f"/proc/{gateway.pid}/task/{gateway.pid}/children").read_text().split()
    os.kill(int(first), signal.SIGKILL)
    gateway.wait_for_crash()


async def test_gateway_killed_in_its_container_serves_from_the_next_one(
    local_chains: LocalChains, tmp_path: Path
) -> None:
    gateway = ServedGateway(tmp_path / "gateway", local_chains)
    gateway.inside = CONTAINER
    with ended(gateway):
        await asyncio.to_thread(gateway.start)
        wallet, name = await Wallet(gateway).fund(), fresh_name()
        deployed = await wallet.deploy_paid(name)
        assert (await wallet.settled(deployed))["status"] == "ready"
        for inside in (CONTAINER, (*CONTAINER, sys.executable, "-c", CROWDED)):
            end_container(gateway)
            gateway.inside = inside
            await asyncio.to_thread(gateway.start)
            await until_read(lambda: wallet.visit(name), lambda page: page == (200, "hello world"))
        end_container(gateway)
        gateway.inside = ()
        await asyncio.to_thread(gateway.start)
