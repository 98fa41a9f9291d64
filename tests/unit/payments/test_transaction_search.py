"""A payment is found on the chain where it was made, whichever one the client names."""

import asyncio
from typing import cast

import pytest

from moorage.auth.rate_limit import MemoryRateLimiter
from moorage.chains.chain import KNOWN_CHAINS, Chain
from moorage.clock import SystemClock
from moorage.errors import (
    ChainUnavailable,
    MoorageError,
    PaymentNotFound,
    PaymentPending,
)
from moorage.ledger.ledger import Transfer
from moorage.payments.taking.paywall import TransactionSearch
from moorage.payments.taking.verification import Lookup, Verifier
from support.books.records_fixture import USDC, fresh_hash, transfer

CHAINS = {name: KNOWN_CHAINS[name] for name in ("arbitrum", "base", "arbitrum-sepolia")}
FOUND = (transfer(),)
BRINGS_NOTHING = PaymentNotFound("nothing", looked_for={})


def unknown() -> PaymentPending:
    pending = PaymentPending()
    pending.seen = False
    return pending


class Nodes:
    """Chains that answer what the test says; those that it doesn't name know no transaction."""

    def __init__(self, **answers: MoorageError | tuple[Transfer, ...]) -> None:
        self.answers = answers
        self.asked: list[tuple[str, bool]] = []
        self.silent: set[str] = set()

    async def transfers(self, *, chain: Chain, lookup: Lookup, **_: object) -> tuple[Transfer, ...]:
        await lookup.count()
        self.asked.append((chain.name, lookup.waits))
        await asyncio.sleep(0)
        if chain.name in self.silent:
            await asyncio.Event().wait()
        answer = self.answers.get(chain.name, unknown())
        if isinstance(answer, MoorageError):
            raise answer
        return answer

    async def find(self, lookup: Lookup | None = None) -> tuple[Transfer, ...]:
        search = TransactionSearch(cast("Verifier", self), CHAINS)
        return await search.find(
            chain=CHAINS["arbitrum"],
            token=USDC,
            tx_hash=fresh_hash(),
            lookup=lookup or Lookup(),
        )


async def test_chain_that_is_named_and_has_it_is_the_only_one_asked() -> None:
    nodes = Nodes(arbitrum=FOUND, base=FOUND)
    assert await nodes.find() == FOUND
    assert nodes.asked == [("arbitrum", False)]


async def test_transaction_that_another_chain_has_is_found_there_though_a_third_is_silent() -> None:
    nodes = Nodes(base=FOUND)
    nodes.silent = {"arbitrum-sepolia"}
    assert await nodes.find() == FOUND


async def test_transaction_that_the_named_chain_has_not_confirmed_is_waited_for_there_alone() -> (
    None
):
    nodes = Nodes(arbitrum=PaymentPending("1 of 2"), base=FOUND)
    with pytest.raises(PaymentPending, match="1 of 2"):
        await nodes.find()
    assert nodes.asked == [("arbitrum", False), ("arbitrum", True)]


@pytest.mark.parametrize(
    ("answers", "told"),
    [
        ({}, PaymentPending),
        ({"base": ChainUnavailable()}, PaymentPending),
        ({"arbitrum": ChainUnavailable()}, ChainUnavailable),
        ({"arbitrum": ChainUnavailable(), "base": BRINGS_NOTHING}, PaymentNotFound),
        ({"base": BRINGS_NOTHING}, PaymentNotFound),
        ({"base": PaymentPending()}, PaymentPending),
        ({"arbitrum": BRINGS_NOTHING, "base": FOUND}, PaymentNotFound),
    ],
)
async def test_chain_that_knows_the_transaction_says_what_is_wrong_else_the_one_named(
    answers: dict[str, MoorageError], told: type[MoorageError]
) -> None:
    with pytest.raises(MoorageError) as refusal:
        await Nodes(**answers).find()
    assert type(refusal.value) is told


async def test_payment_elsewhere_is_found_when_the_named_chain_cannot_be_read() -> None:
    nodes = Nodes(arbitrum=ChainUnavailable(), base=FOUND)
    assert await nodes.find() == FOUND
    assert ("base", False) in nodes.asked


async def test_every_question_of_a_stranger_counts_whichever_chain_it_asks() -> None:
    nodes = Nodes()
    looks = MemoryRateLimiter(clock=SystemClock(), limit=5)
    for _ in range(4):
        with pytest.raises(PaymentPending):
            await nodes.find(Lookup(looks=looks, key="here"))
    assert len(nodes.asked) == 5
