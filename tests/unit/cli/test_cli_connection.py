"""Flags come before the environment, the environment before dev.json; a long wait says why."""

import errno
import json
from pathlib import Path
from typing import Any

import pytest

from moorage.chains.eip3009 import Eip712Domain
from moorage.cli.connection import WaitTeller, wait_text
from moorage.sdk.connection import Connection, Named, find_connection
from moorage.sdk.errors import (
    AnswerLost,
    ClientError,
    ClientMisconfigured,
    GatewayUnreachable,
    TooManyRequests,
)


def too_many() -> TooManyRequests:
    return TooManyRequests(status=429, code="x", error="no", retryable=True, body={})


@pytest.mark.parametrize(
    ("seconds", "because", "text"),
    [
        (18.2, too_many(), "The gateway asks for fewer requests: waiting 19 s."),
        (
            3,
            GatewayUnreachable("http://g"),
            "Waiting 3 s to try again: no gateway answers at http://g",
        ),
    ],
)
def test_wait_in_a_sentence(seconds: float, because: ClientError, text: str) -> None:
    assert wait_text(seconds, because) == text


def test_long_wait_is_told_once_and_a_short_one_never(capsys: pytest.CaptureFixture[str]) -> None:
    tell = WaitTeller()
    for seconds in (1, 3, 3, 0.5, 4):
        tell(seconds, AnswerLost("lost"))
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.splitlines() == [
        "Waiting 3 s to try again: lost",
        "Waiting 4 s to try again: lost",
    ]


DEV = {
    "gateway": "http://127.0.0.1:8402",
    "proxy": "http://127.0.0.1:8080",
    "base_domain": "localhost",
    "pay_to": "0x7E5F4552091A69125d5DfCb7b8C2659029395Bdf",
    "chains": {
        "arbitrum": {
            "chain_id": 42161,
            "rpc_url": "http://127.0.0.1:18545",
            "tokens": {"usdc": "0xaf88d065e77c8cC2239327C5EDb3A432268e5831"},
        }
    },
    "wallets": [
        {"address": f"0x{number:040x}", "private_key": f"0x{number:064x}"} for number in (1, 2)
    ],
}


@pytest.fixture
def place(tmp_path: Path) -> Path:
    data = tmp_path / ".moorage"
    data.mkdir()
    (data / "dev.json").write_text(json.dumps(DEV))
    return tmp_path


def find(place: Path, *, env: dict[str, str] | None = None, **options: Any) -> Connection:
    return find_connection(Named(**options), environment=env or {}, directory=place)


def test_dev_json_alone_is_enough(place: Path) -> None:
    found = find(place)
    assert found.gateway == "http://127.0.0.1:8402"
    assert found.private_key == f"0x{1:064x}"
    assert found.chains["arbitrum"].rpc_urls == ("http://127.0.0.1:18545",)
    (usdc,) = found.chains["arbitrum"].tokens
    assert usdc.decimals == 6
    assert usdc.authorization == Eip712Domain(name="USD Coin", version="2")


def test_wallet_picks_among_dev_wallets(place: Path) -> None:
    assert find(place, wallet=1).private_key == f"0x{2:064x}"
    with pytest.raises(ClientMisconfigured, match="0 to 1"):
        find(place, wallet=2)
    with pytest.raises(ClientMisconfigured):
        find(place, wallet=-1)


def test_data_dir_is_a_flag_or_a_variable(place: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    assert find(elsewhere, data_dir=place / ".moorage").gateway == DEV["gateway"]
    env = {"MOORAGE_DATA_DIR": str(place / ".moorage")}
    assert find(elsewhere, env=env).gateway == DEV["gateway"]


def test_flag_beats_variable_beats_dev_json(place: Path) -> None:
    env = {"MOORAGE_GATEWAY": "https://two.example", "MOORAGE_PRIVATE_KEY": "0x" + "22" * 32}
    assert find(place, env=env).gateway == "https://two.example"
    assert find(place, env=env, gateway="https://one.example").gateway == "https://one.example"


def test_key_file_beats_the_variable(place: Path) -> None:
    file = place / "key"
    file.write_text("0x" + "33" * 32 + "\n")
    file.chmod(0o600)
    found = find(place, env={"MOORAGE_PRIVATE_KEY": "0x" + "22" * 32}, key_file=file)
    assert (found.private_key, found.warnings) == ("0x" + "33" * 32, ())
    file.chmod(0o644)
    assert "chmod 600" in find(place, key_file=file).warnings[0]


def test_dev_keys_and_nodes_serve_their_own_gateway_only(place: Path) -> None:
    found = find(place, gateway="https://one.example")
    assert found.private_key is None
    assert found.chains["arbitrum"].rpc_urls == ()
    with pytest.raises(ClientMisconfigured, match="MOORAGE_PRIVATE_KEY"):
        found.required_key()
    assert find(place, gateway="http://localhost:8402/").private_key == f"0x{1:064x}"


def test_foreign_key_on_a_local_chain_is_warned_of(place: Path) -> None:
    assert find(place, env={"MOORAGE_PRIVATE_KEY": "0x" + "22" * 32}).warnings != ()
    assert find(place, env={"MOORAGE_PRIVATE_KEY": f"{1:064x}"}).warnings == ()


def test_node_of_a_chain_is_a_flag_or_a_variable(tmp_path: Path) -> None:
    env = {
        "MOORAGE_GATEWAY": "https://one.example",
        "MOORAGE_RPC_URL_BASE": "https://base.example",
        "MOORAGE_RPC_URL_ARBITRUM_SEPOLIA": "https://sepolia.example",
    }
    chains = find(tmp_path, env=env, rpc_url=["base=https://mine.example"]).chains
    assert chains["base"].rpc_urls == ("https://mine.example",)
    assert chains["arbitrum-sepolia"].rpc_urls == ("https://sepolia.example",)
    for wrong in ("base", "base=ftp://x", "mars=https://mars.example"):
        with pytest.raises(ClientMisconfigured, match="--rpc-url"):
            find(tmp_path, env=env, rpc_url=[wrong])


def test_no_gateway_says_how_to_start_one(tmp_path: Path) -> None:
    with pytest.raises(ClientMisconfigured, match="make dev"):
        find(tmp_path)


def test_dev_json_of_another_user_says_who_may_read_it(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Path) -> bytes:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(ClientMisconfigured, match=r"dev\.json is only for the user who runs"):
        find(place)


def test_malformed_dev_json_is_named(place: Path) -> None:
    (place / ".moorage" / "dev.json").write_text("{}")
    with pytest.raises(ClientMisconfigured, match=r"dev\.json"):
        find(place)


@pytest.mark.parametrize(
    ("env", "expected"),
    [
        ({"MOORAGE_STATE_DIR": "/s"}, "/s"),
        ({"XDG_STATE_HOME": "/x"}, "/x/moorage"),
        ({}, str(Path.home() / ".local/state/moorage")),
    ],
)
def test_state_directory(place: Path, env: dict[str, str], expected: str) -> None:
    assert find(place, env=env).state_dir == Path(expected)
    assert find(place, env=env, state_dir=Path("/flag")).state_dir == Path("/flag")


def test_connection_shows_no_key(place: Path) -> None:
    found = find(place)
    assert found.private_key is not None
    assert found.private_key not in repr(found) + str(found)


def test_signatures_are_bound_by_flag_or_variable(place: Path) -> None:
    assert not find(place).bound
    assert not find(place, env={"MOORAGE_BOUND_SIGNATURES": "false"}).bound
    assert find(place, bound=True).bound
    assert find(place, env={"MOORAGE_BOUND_SIGNATURES": "true"}).bound
