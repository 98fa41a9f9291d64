"""How nodes tell of a revert: geth's code 3 with data, others' code -32000 with words."""

import pytest

from moorage.chains.rpc import RpcError, revert_reason

PANIC = "0x4e487b71" + f"{0x11:064x}"


def error_data(text: bytes, *, length: int | None = None) -> str:
    """ABI encoding of Error(string), by hand."""
    size = len(text) if length is None else length
    return "0x08c379a0" + f"{32:064x}{size:064x}" + text.hex().ljust(64, "0")


def told(code: int, detail: str, data: object = None) -> str | None:
    return revert_reason(RpcError("eth_estimateGas", code, detail, data))


def test_reason_is_the_contracts_own() -> None:
    data = error_data(b"ERC20: transfer amount exceeds balance")
    assert told(3, "execution reverted", data) == "ERC20: transfer amount exceeds balance"


def test_revert_without_data_is_told_by_the_nodes_words() -> None:
    assert told(-32000, "execution reverted: Pausable: paused") == (
        "execution reverted: Pausable: paused"
    )


@pytest.mark.parametrize(
    "data",
    [PANIC, "0x", "0x08c379a0", "0x08c379a0zz", 7, {"data": "0x"}, error_data(b"")],
)
def test_data_that_says_nothing_falls_back_to_the_nodes_words(data: object) -> None:
    assert told(3, "execution reverted", data) == "execution reverted"


def test_false_length_reads_no_further_than_there_is() -> None:
    reason = told(3, "execution reverted", error_data(b"short", length=2**256 - 1))
    assert reason is not None
    assert reason.startswith("short")
    assert len(reason) <= 120


def test_reason_is_printable_and_short() -> None:
    reason = told(3, "x", error_data("\x1b[2J\n\u202e\x00".encode() + b"y" * 500))
    assert reason is not None
    assert reason.isascii()
    assert reason.isprintable()
    assert len(reason) <= 120


def test_revert_that_says_nothing_at_all_is_one_all_the_same() -> None:
    assert told(3, "") == "the token refuses it"


@pytest.mark.parametrize(
    ("code", "detail"),
    [(-32601, "method not found"), (-32005, "limit exceeded"), (-32000, "header not found")],
)
def test_failure_of_the_node_is_no_revert(code: int, detail: str) -> None:
    assert told(code, detail) is None


@pytest.mark.parametrize("answer", ["0x5208", None, {}])
def test_answer_is_no_revert(answer: object) -> None:
    assert revert_reason(answer) is None
