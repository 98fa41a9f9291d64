"""The local node's file, and the wallets that its chains fund."""

import threading
from pathlib import Path

import pytest
from eth_account import Account

from moorage.chains.local.devchain import DevWallets, address_of, anvil_command, dev_wallets
from moorage.errors import LocalChainFailed


def test_addresses_belong_to_their_keys(tmp_path: Path) -> None:
    wallets = dev_wallets(tmp_path / "wallets.json")
    for wallet in (*wallets.wallets, wallets.pay_to, wallets.relayer):
        assert Account.from_key(wallet.private_key).address == wallet.address


def test_address_is_the_one_everybody_knows() -> None:
    """anvil's and hardhat's first account."""
    key = bytes.fromhex("ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80")
    assert address_of(key) == "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266"


def test_keys_asked_for_at_once_are_made_once(tmp_path: Path) -> None:
    path = tmp_path / "wallets.json"
    start = threading.Barrier(8)
    found: list[DevWallets] = []

    def ask() -> None:
        start.wait()
        found.append(dev_wallets(path))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len(set(found)) == 1
    assert [entry.name for entry in tmp_path.iterdir()] == ["wallets.json"]


def test_file_that_holds_no_wallets_is_said(tmp_path: Path) -> None:
    path = tmp_path / "wallets.json"
    path.write_text('{"wallets": []}')
    with pytest.raises(LocalChainFailed, match=r"wallets\.json"):
        dev_wallets(path)


def test_node_listens_on_loopback_mines_at_once_and_keeps_its_state() -> None:
    command = anvil_command(
        anvil=Path("/bin/anvil"), chain_id=42161, port=8545, state=Path("/data/state.json")
    )
    assert command == (
        "/bin/anvil",
        "--quiet",
        "--host",
        "127.0.0.1",
        "--port",
        "8545",
        "--chain-id",
        "42161",
        "--accounts",
        "0",
        "--slots-in-an-epoch",
        "1",
        "--prune-history",
        "64",
        "--state",
        "/data/state.json",
        "--state-interval",
        "1",
    )
