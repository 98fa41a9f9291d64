"""Local chains, on the real node: what they offer, and what survives whom."""

import asyncio
import json
import os
import secrets
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from eth_account import Account

from moorage.chains.chain import KNOWN_CHAINS
from moorage.chains.local.devchain import (
    INSTALL_COMMAND,
    DevChain,
    DevWallets,
    NodeRecord,
    dev_wallets,
    find_anvil,
    keep_mining,
)
from moorage.chains.rpc import RpcClient
from moorage.errors import LocalChainFailed
from support.chains.chain_fixture import LocalChains
from support.chains.paying import rpc, send_transfer, token_balance, until_mined
from support.chains.rpc_proxy import RpcProxy
from support.gateway.ports import quiet_port
from support.gateway.standing_still import is_stopped
from support.gateway.waiting import until


async def test_transaction_that_the_node_held_back_in_its_turn_is_waited_for(
    local_chains: LocalChains,
) -> None:
    """As when it was judged a moment before the one before it was mined."""
    url = local_chains.arbitrum.rpc_urls[0]
    key = "0x" + secrets.token_hex(32)
    sender = Account.from_key(key).address
    await rpc(url, "anvil_setBalance", sender, hex(10**18))
    hashes = []
    for nonce in (2, 1):
        signed = Account.sign_transaction(
            {
                "type": 2,
                "chainId": 42161,
                "nonce": nonce,
                "to": sender,
                "value": 0,
                "gas": 30_000,
                "maxFeePerGas": 10**11,
                "maxPriorityFeePerGas": 10**9,
            },
            key,
        )
        raw = signed.raw_transaction.to_0x_hex()
        hashes.append(await rpc(url, "eth_sendRawTransaction", raw))
    await until_mined(url)  # it is not their turn: nothing to wait for
    await rpc(url, "anvil_setNonce", sender, "0x1")
    await until_mined(url)
    receipts = [await rpc(url, "eth_getTransactionReceipt", tx_hash) for tx_hash in hashes]
    assert [receipt["status"] for receipt in receipts] == ["0x1", "0x1"]


ARBITRUM = KNOWN_CHAINS["arbitrum"]
USDC = "0xaf88d065e77c8cC2239327C5EDb3A432268e5831"
USDT = "0xFd086bC7CD5C481DCC9C85ebE478A1C0b69FCbb9"
STRANGER = "0x00000000000000000000000000000000000000aa"


@pytest.fixture
def wallets(tmp_path: Path) -> DevWallets:
    return dev_wallets(tmp_path / "wallets.json")


@pytest.fixture
async def devchain(
    tmp_path: Path, anvil_binary: Path, wallets: DevWallets
) -> AsyncIterator[DevChain]:
    chain = make_chain(tmp_path, anvil_binary, wallets)
    yield chain
    await chain.stop()


def make_chain(directory: Path, anvil: Path, wallets: DevWallets, *, port: int = 0) -> DevChain:
    return DevChain(
        ARBITRUM, directory=directory / "arbitrum", anvil=anvil, wallets=wallets, port=port
    )


def alive(pid: int) -> bool:
    try:
        return (
            Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[0]
            not in "ZX"
        )
    except OSError:
        return False


async def test_chains_stand_in_for_the_real_ones(local_chains: LocalChains) -> None:
    for chain, chain_id in ((local_chains.arbitrum, 42161), (local_chains.base, 8453)):
        url = chain.rpc_urls[0]
        assert url.startswith("http://127.0.0.1:")
        assert int(await rpc(url, "eth_chainId"), 16) == chain_id
        for token in KNOWN_CHAINS[chain.name].tokens:
            code = await rpc(url, "eth_getCode", token.address, "latest")
            assert len(code) > 1000
        assert chain.tokens == KNOWN_CHAINS[chain.name].tokens


async def test_each_wallet_has_gas_and_a_thousand_of_each_token(
    devchain: DevChain, wallets: DevWallets
) -> None:
    chain = await devchain.start()
    url = chain.rpc_urls[0]
    assert len(wallets.wallets) >= 8
    for wallet in wallets.wallets:
        assert int(await rpc(url, "eth_getBalance", wallet.address, "latest"), 16) > 10**18
        assert await token_balance(url, USDC, wallet.address) == 1_000_000_000
        assert await token_balance(url, USDT, wallet.address) == 1_000_000_000
    assert int(await rpc(url, "eth_getBalance", wallets.relayer.address, "latest"), 16) > 10**18
    assert await token_balance(url, USDC, wallets.pay_to.address) == 0


async def test_only_loopback_is_listened_on(devchain: DevChain) -> None:
    await devchain.start()
    rows = Path(f"/proc/{devchain.pid}/net/tcp").read_text().splitlines()[1:]
    port = int(devchain.rpc_url.rpartition(":")[2])
    listening = [row.split() for row in rows if row.split()[3] == "0A"]
    assert {row[1] for row in listening if row[1].endswith(f":{port:04X}")} == {
        f"0100007F:{port:04X}"
    }


async def test_anvils_well_known_accounts_hold_nothing(devchain: DevChain) -> None:
    chain = await devchain.start()
    assert await rpc(chain.rpc_urls[0], "eth_accounts") == []


async def test_safe_and_finalized_follow_the_newest_block(devchain: DevChain) -> None:
    url = (await devchain.start()).rpc_urls[0]
    await rpc(url, "anvil_mine", "0xa")
    numbers = [
        int((await rpc(url, "eth_getBlockByNumber", tag, False))["number"], 16)
        for tag in ("latest", "safe", "finalized")
    ]
    assert numbers == [numbers[0], numbers[0] - 1, numbers[0] - 2]


async def test_transaction_that_the_node_overlooked_is_mined(
    devchain: DevChain, wallets: DevWallets
) -> None:
    chain = await devchain.start()
    url, key = chain.rpc_urls[0], wallets.wallets[0].private_key
    await rpc(url, "evm_setAutomine", False)
    await send_transfer(url, key, USDC, STRANGER, 700_000, mined=False)

    async def arrived() -> bool:
        return await token_balance(url, USDC, STRANGER) == 700_000

    async with RpcProxy(url) as proxy:
        client = RpcClient(msgspec.structs.replace(chain, rpc_urls=(proxy.url,)))
        mining = asyncio.create_task(keep_mining(client, every_seconds=0.05))
        await until(lambda: proxy.requests >= 3)
        assert not await arrived()  # a node that was told to wait is not hurried
        proxy.alter = lambda method, result: method == "anvil_getAutomine" or result
        await until(arrived)
        mining.cancel()
        await client.close()


async def test_transaction_that_waits_at_one_look_alone_is_left_to_the_node(
    devchain: DevChain,
) -> None:
    chain = await devchain.start()
    url = chain.rpc_urls[0]
    async with RpcProxy(url) as proxy:

        def another_each_time(method: str, result: Any) -> Any:
            waits = {"pending": {STRANGER: {"0": {"hash": hex(proxy.requests)}}}}
            return waits if method == "txpool_content" else result

        proxy.alter = another_each_time
        before = await rpc(url, "eth_blockNumber")
        client = RpcClient(msgspec.structs.replace(chain, rpc_urls=(proxy.url,)))
        mining = asyncio.create_task(keep_mining(client, every_seconds=0.05))
        await until(lambda: proxy.requests >= 4)
        assert await rpc(url, "eth_blockNumber") == before
        mining.cancel()
        await client.close()


async def test_payment_that_counts_once_it_is_safe_gets_one_block_on_top(
    devchain: DevChain, wallets: DevWallets
) -> None:
    chain = await devchain.start()
    url, key, pay_to = chain.rpc_urls[0], wallets.wallets[0].private_key, wallets.pay_to.address

    async def blocks_after(amount: int, proxy: RpcProxy) -> int:
        before = int(await rpc(url, "eth_blockNumber"), 16)
        await send_transfer(url, key, USDC, pay_to, amount)
        looked = proxy.requests
        await until(lambda: proxy.requests >= looked + 6)
        return int(await rpc(url, "eth_blockNumber"), 16) - before

    async with RpcProxy(url) as proxy:
        client = RpcClient(msgspec.structs.replace(chain, rpc_urls=(proxy.url,)))
        bury = (pay_to, 500_000)
        mining = asyncio.create_task(keep_mining(client, every_seconds=0.05, bury=bury))
        assert await blocks_after(500_000, proxy) == 1
        assert await blocks_after(500_001, proxy) == 2
        mining.cancel()
        await client.close()


async def test_calls_run_at_about_the_present(devchain: DevChain) -> None:
    """On a chain without blocks anvil runs them in 1970, when no authorization is valid yet."""
    url = (await devchain.start()).rpc_urls[0]
    block = await rpc(url, "eth_getBlockByNumber", "latest", False)
    returns_time = {"code": "0x425f5260205ff3"}  # TIMESTAMP PUSH0 MSTORE PUSH1 32 PUSH0 RETURN
    call = [{"to": STRANGER}, "latest", {STRANGER: returns_time}]
    assert int(await rpc(url, "eth_call", *call), 16) == int(block["timestamp"], 16)
    assert abs(int(block["timestamp"], 16) - time.time()) < 60


async def test_money_and_port_survive_a_restart(
    tmp_path: Path, anvil_binary: Path, wallets: DevWallets
) -> None:
    port = quiet_port()  # which nobody is given unasked between the two
    devchain = make_chain(tmp_path, anvil_binary, wallets, port=port)
    url = (await devchain.start()).rpc_urls[0]
    wallet = wallets.wallets[0]
    tx_hash = await send_transfer(url, wallet.private_key, USDC, STRANGER, 700_000)
    first_pid = devchain.pid
    await devchain.stop()
    assert not alive(first_pid)

    again = make_chain(tmp_path, anvil_binary, wallets)
    try:
        chain = await again.start()
        assert chain.rpc_urls == (url,)
        assert again.pid != first_pid
        assert await token_balance(url, USDC, wallet.address) == 999_300_000
        assert await token_balance(url, USDC, STRANGER) == 700_000
        receipt = await rpc(url, "eth_getTransactionReceipt", tx_hash)
        assert receipt["status"] == "0x1"
        assert len(receipt["logs"]) == 1
    finally:
        await again.stop()


START_AND_DIE = """
import asyncio, os, signal, sys
from pathlib import Path
from moorage.chains.chain import KNOWN_CHAINS
from moorage.chains.local.devchain import dev_wallets
from moorage.chains.local.devchain import DevChain
directory = Path(sys.argv[1])
chain = DevChain(KNOWN_CHAINS["arbitrum"], directory=directory / "arbitrum",
                 anvil=Path(sys.argv[2]), wallets=dev_wallets(directory / "wallets.json"))
asyncio.run(chain.start())
print(chain.pid, chain.rpc_url, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


async def test_killed_gateway_leaves_a_chain_that_the_next_start_takes_over(
    devchain: DevChain, tmp_path: Path, anvil_binary: Path, wallets: DevWallets
) -> None:
    ended = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", START_AND_DIE, str(tmp_path), str(anvil_binary)],
        capture_output=True,
        check=False,
        text=True,
    )
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    pid, url = ended.stdout.split()
    try:
        assert alive(int(pid))
        assert os.getsid(int(pid)) == int(pid)  # a Ctrl-C at the terminal isn't for the node
        # Paid while no gateway runs, and not yet saved to disk.
        await send_transfer(url, wallets.wallets[0].private_key, USDC, STRANGER, 5)

        chain = await devchain.start()

        assert (devchain.pid, chain.rpc_urls) == (int(pid), (url,))
        assert await token_balance(url, USDC, STRANGER) == 5
        await devchain.stop()
        assert not alive(int(pid))
        assert not (tmp_path / "arbitrum" / "node.json").exists()
    finally:
        if alive(int(pid)):  # nobody's child any more: a failing test mustn't leave it
            os.kill(int(pid), signal.SIGKILL)


async def test_another_process_with_a_recorded_id_is_left_alone(
    devchain: DevChain, tmp_path: Path
) -> None:
    """The id was reused: by a process that started later, or has another command line."""
    bystander = await asyncio.create_subprocess_exec("sleep", "60")
    fields = (
        Path(f"/proc/{bystander.pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    )
    (tmp_path / "arbitrum").mkdir()
    for ticks in (int(fields[19]) - 1, int(fields[19])):
        record = NodeRecord(
            pid=bystander.pid, start_ticks=ticks, command=("anvil", "60"), port=18545
        )
        (tmp_path / "arbitrum" / "node.json").write_bytes(msgspec.json.encode(record))
        await devchain.start()
        assert devchain.pid != bystander.pid
        await devchain.stop()
        assert bystander.returncode is None
        assert alive(bystander.pid)
    bystander.kill()
    await bystander.wait()


async def test_node_that_hangs_is_replaced(
    devchain: DevChain, tmp_path: Path, anvil_binary: Path, wallets: DevWallets
) -> None:
    await devchain.start()
    hung = devchain.pid
    devchain.detach()
    os.kill(hung, signal.SIGSTOP)
    await until(lambda: is_stopped(hung))  # until then it may still answer
    again = make_chain(tmp_path, anvil_binary, wallets)
    again_started = asyncio.create_task(again.start())
    # It is asked first, then told to end: which it does once it may go on.
    while not again_started.done():
        await asyncio.sleep(0.05)
        if Path(f"/proc/{hung}/status").exists() and pending_sigterm(hung):
            os.kill(hung, signal.SIGCONT)
            break
    await again_started
    try:
        assert again.pid != hung
        assert not alive(hung)
    finally:
        await again.stop()


def pending_sigterm(pid: int) -> bool:
    status = Path(f"/proc/{pid}/status").read_text(errors="replace")
    shared = next(line for line in status.splitlines() if line.startswith("ShdPnd:"))
    return bool(int(shared.split()[1], 16) & (1 << (signal.SIGTERM - 1)))


async def test_directory_in_use_is_refused(
    devchain: DevChain, tmp_path: Path, anvil_binary: Path, wallets: DevWallets
) -> None:
    await devchain.start()
    with pytest.raises(LocalChainFailed, match="in use"):
        await make_chain(tmp_path, anvil_binary, wallets).start()
    assert alive(devchain.pid)


async def test_half_written_state_falls_back_to_the_last_good_one(
    devchain: DevChain, tmp_path: Path, anvil_binary: Path, wallets: DevWallets
) -> None:
    url = (await devchain.start()).rpc_urls[0]
    await send_transfer(url, wallets.wallets[0].private_key, USDC, STRANGER, 11)
    await devchain.stop()
    await devchain.start()  # loads the state: it is good
    await devchain.stop()
    state = tmp_path / "arbitrum" / "state.json"
    state.write_bytes(state.read_bytes()[:5000])

    url = (await devchain.start()).rpc_urls[0]

    assert await token_balance(url, USDC, STRANGER) == 11
    assert json.loads(state.read_bytes())


async def test_chains_started_at_once_take_different_ports(
    tmp_path: Path, anvil_binary: Path, wallets: DevWallets
) -> None:
    chains = [make_chain(tmp_path / str(n), anvil_binary, wallets) for n in range(3)]
    try:
        started = await asyncio.gather(*(chain.start() for chain in chains))
        assert len({chain.rpc_urls for chain in started}) == 3
    finally:
        for chain in chains:
            await chain.stop()


async def test_taken_port_is_an_error_that_leaves_nothing(
    tmp_path: Path, anvil_binary: Path, wallets: DevWallets
) -> None:
    port = quiet_port()  # which nobody is given unasked once it is free
    chain = make_chain(tmp_path, anvil_binary, wallets, port=port)
    with (
        socket.create_server(("127.0.0.1", port)),
        pytest.raises(LocalChainFailed, match="does not start"),
    ):
        await chain.start()
    assert not (tmp_path / "arbitrum" / "node.json").exists()
    await chain.start()  # its port is free now
    await chain.stop()


async def test_new_wallets_on_an_old_chain_are_funded(
    devchain: DevChain, tmp_path: Path, anvil_binary: Path
) -> None:
    await devchain.start()
    await devchain.stop()
    newer = dev_wallets(tmp_path / "newer.json")
    chain = make_chain(tmp_path, anvil_binary, newer)
    url = (await chain.start()).rpc_urls[0]
    try:
        assert await token_balance(url, USDT, newer.wallets[7].address) == 1_000_000_000
    finally:
        await chain.stop()


def test_missing_node_names_the_command_that_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(LocalChainFailed, match=INSTALL_COMMAND):
        find_anvil([tmp_path / "node_modules"])


def test_node_on_the_path_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    on_path = tmp_path / "bin" / "anvil"
    installed = tmp_path / "node_modules" / "@foundry-rs" / "anvil-linux-amd64" / "bin" / "anvil"
    for binary in (on_path, installed):
        binary.parent.mkdir(parents=True)
        binary.touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "nowhere"))
    assert find_anvil([tmp_path / "none", tmp_path / "node_modules"]) == installed
    monkeypatch.setenv("PATH", str(on_path.parent))
    assert find_anvil([tmp_path / "node_modules"]) == on_path


def test_wallets_are_made_once_for_their_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "data" / "wallets.json"
    wallets = dev_wallets(path)
    assert dev_wallets(path) == wallets
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [entry.name for entry in path.parent.iterdir()] == ["wallets.json"]
    addresses = [w.address for w in (*wallets.wallets, wallets.pay_to, wallets.relayer)]
    assert len(set(addresses)) == len(addresses) == 10
    assert dev_wallets(tmp_path / "other.json") != wallets
