from pathlib import Path

from moorage.chains.local.devchain import anvil_command


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
