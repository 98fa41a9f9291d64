from typing import Any

import pytest

from moorage.chains.receipt import Log, Receipt, parse_receipt

TX = "0x" + "1a" * 32
BLOCK = "0x" + "2b" * 32
ADDRESS = "0x" + "3C" * 20


def log_answer(index: int, **changes: Any) -> dict[str, Any]:
    answer = {
        "address": ADDRESS,
        "topics": ["0x" + "4D" * 32],
        "data": "0xFF",
        "transactionHash": TX,
        "blockHash": BLOCK,
        "blockNumber": "0x10",
        "logIndex": hex(index),
        "removed": False,
        "transactionIndex": "0x0",
    }
    return {**answer, **changes}


def answer(**changes: Any) -> dict[str, Any]:
    whole = {
        "transactionHash": TX,
        "blockHash": BLOCK,
        "blockNumber": "0x10",
        "status": "0x1",
        "logs": [log_answer(5), log_answer(6)],
        "gasUsed": "0x5208",
    }
    return {**whole, **changes}


def test_receipt_is_read_in_lower_case() -> None:
    log = Log(log_index=5, address=ADDRESS.lower(), topics=("0x" + "4d" * 32,), data="0xff")
    assert parse_receipt(answer(logs=[log_answer(5)]), tx_hash=TX) == Receipt(
        TX, BLOCK, 16, succeeded=True, logs=(log,)
    )


def test_hash_compares_whatever_its_case() -> None:
    assert parse_receipt(answer(transactionHash=TX.replace("a", "A")), tx_hash=TX).tx_hash == TX


def test_reverted_transaction_has_no_logs() -> None:
    assert not parse_receipt(answer(status="0x0", logs=[]), tx_hash=TX).succeeded


@pytest.mark.parametrize(
    "changes",
    [
        {"transactionHash": BLOCK},
        {"transactionHash": None},
        {"blockHash": "0x"},
        {"blockNumber": "16"},
        {"status": "0x2"},
        {"status": None},
        {"status": "0x0"},  # with logs
        {"logs": None},
        {"logs": [log_answer(5), log_answer(5)]},
        {"logs": [log_answer(6), log_answer(5)]},
        {"logs": [log_answer(5, removed=True)]},
        {"logs": [log_answer(5, transactionHash=BLOCK)]},
        {"logs": [log_answer(5, blockHash=TX)]},
        {"logs": [log_answer(5, blockNumber="0x11")]},
        {"logs": [log_answer(5, address="0x" + "00" * 19)]},
        {"logs": [log_answer(5, topics=["0x00"])]},
        {"logs": [log_answer(5, topics="0x00")]},
        {"logs": [log_answer(5, data=None)]},
    ],
    ids=str,
)
def test_contradiction_is_no_receipt(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        parse_receipt(answer(**changes), tx_hash=TX)


@pytest.mark.parametrize("garbage", [1, "0x", [], {}, True, [answer()]])
def test_garbage_is_no_receipt(garbage: object) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        parse_receipt(garbage, tx_hash=TX)
