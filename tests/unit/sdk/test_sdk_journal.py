"""The record of payments: on the disk before the network, whole after any crash."""

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest

from moorage.sdk.errors import ClientMisconfigured, JournalUnwritable
from moorage.sdk.journal import Journal, Payment, PaymentKey, PaymentState

KEY = PaymentKey(gateway="http://127.0.0.1:8402", wallet="0xab", name="hello")


def payment(tx_hash: str = "0x01", **changes: Any) -> Payment:
    made = Payment(
        gateway=KEY.gateway,
        wallet=KEY.wallet,
        name=KEY.name,
        chain="arbitrum",
        chain_id=42161,
        token="usdc",
        decimals=6,
        amount=500_000,
        pay_to="0xcd",
        nonce=7,
        tx_hash=tx_hash,
        raw_transaction="0x02",
        signed_at_ms=1,
    )
    return msgspec.structs.replace(made, **changes)


def test_last_line_of_a_hash_is_its_state(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.append(payment("0x01"))
    journal.append(payment("0x02"))
    journal.append(payment("0x01", state=PaymentState.DEPLOYED))
    found = Journal(tmp_path).payments(KEY)
    assert [(each.tx_hash, each.state) for each in found] == [
        ("0x01", PaymentState.DEPLOYED),
        ("0x02", PaymentState.SIGNED),
    ]


@pytest.mark.parametrize("field", ["gateway", "wallet", "name"])
def test_payment_counts_for_its_gateway_wallet_and_name_alone(tmp_path: Path, field: str) -> None:
    journal = Journal(tmp_path)
    journal.append(payment())
    assert journal.payments(msgspec.structs.replace(KEY, **{field: "other"})) == []


def test_file_and_directory_are_the_users_alone(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "state")
    journal.append(payment())
    assert journal.path.stat().st_mode & 0o777 == 0o600
    assert journal.path.parent.stat().st_mode & 0o777 == 0o700


def test_torn_line_is_left_out_at_every_length_and_harms_no_later_one(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    whole = msgspec.json.encode(payment("0x02"))
    for length in (*range(1, len(whole), 31), len(whole) - 1):
        journal.path.unlink(missing_ok=True)
        journal.append(payment("0x01"))
        with journal.path.open("ab") as file:
            file.write(whole[:length])
        assert [each.tx_hash for each in journal.payments(KEY)] == ["0x01"]
        journal.append(payment("0x03"))
        assert [each.tx_hash for each in journal.payments(KEY)] == ["0x01", "0x03"]


def test_whole_line_that_cannot_be_read_stops_all_payment(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.append(payment())
    with journal.path.open("ab") as file:
        file.write(b'{"state": "from the future"}\n')
    with pytest.raises(ClientMisconfigured, match=r"payments\.jsonl:2"):
        journal.payments(KEY)


def test_directory_that_is_none_is_unwritable(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(JournalUnwritable):
        Journal(tmp_path / "file").append(payment())


async def test_lock_is_one_at_a_time(tmp_path: Path) -> None:
    inside = 0
    most = 0

    async def enter() -> None:
        nonlocal inside, most
        async with Journal(tmp_path).locked():
            inside += 1
            most = max(most, inside)
            await asyncio.sleep(0)
            inside -= 1

    await asyncio.gather(*(enter() for _ in range(5)))
    assert most == 1
