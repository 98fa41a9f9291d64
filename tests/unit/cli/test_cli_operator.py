"""What the operator reads: a refund, and the next command after a start."""

from pathlib import Path

import msgspec
import pytest

from moorage.chains.chain import KNOWN_CHAINS
from moorage.cli.operator.books import refund_text
from moorage.cli.operator.serve import next_command
from moorage.money import MicroUsd
from moorage.records.payments import Finality, Refund, RefundStatus

HERE = Path("/clone")


@pytest.mark.parametrize(
    ("program", "data_dir", "command"),
    [
        (
            ".venv/bin/moorage",
            HERE / ".moorage",
            ".venv/bin/moorage deploy examples/hello-node --name hello",
        ),
        (
            HERE / ".venv/bin/moorage",
            HERE / "two words",
            ".venv/bin/moorage deploy examples/hello-node --name hello --data-dir 'two words'",
        ),
        (
            "/usr/bin/moorage",
            "/elsewhere",
            "/usr/bin/moorage deploy examples/hello-node --name hello --data-dir /elsewhere",
        ),
    ],
    ids=["usual", "elsewhere in here", "elsewhere"],
)
def test_next_command_finds_the_gateway_that_names_it(
    program: str, data_dir: str, command: str
) -> None:
    assert next_command(Path(program), data_dir=Path(data_dir), here=HERE) == command


ARBITRUM = KNOWN_CHAINS["arbitrum"]
REFUND = Refund(
    id="r1",
    chain_id=42161,
    tx_hash="0x01",
    log_index=0,
    recipient="0xab",
    token_address="0xaf88d065e77c8cc2239327c5edb3a432268e5831",
    amount_atomic="500000",
    debited_micro_usd=MicroUsd(500_000),
    reason="asked for",
    status=RefundStatus.REFUNDED,
    refund_tx_hash="0x02",
    created_at_ms=1,
    ended_at_ms=2,
    finality=Finality.SAFE,
)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({}, "refunded: 0.500000 USDC on arbitrum to 0xab, transaction 0x02, refund r1"),
        (
            {"status": RefundStatus.INTENDED, "refund_tx_hash": None},
            "intended: 0.500000 USDC on arbitrum to 0xab, refund r1",
        ),
        (
            {"token_address": "0xcd"},
            "refunded: 500000 of 0xcd on arbitrum to 0xab, transaction 0x02, refund r1",
        ),
    ],
    ids=["mined", "not sent yet", "token no longer configured"],
)
def test_refund_is_told_in_tokens(changes: dict[str, object], text: str) -> None:
    assert refund_text(ARBITRUM, msgspec.structs.replace(REFUND, **changes)) == text
