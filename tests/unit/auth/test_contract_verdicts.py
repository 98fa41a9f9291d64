"""Whose word counts when a chain is asked whether a contract wallet signed."""

from collections.abc import Sequence
from typing import Any

import pytest

from moorage.auth.rate_limit import MemoryRateLimiter
from moorage.auth.wallet import ContractWallets, Wallet
from moorage.chains.chain import KNOWN_CHAINS
from moorage.errors import ChainUnavailable
from support.chains.chain_in_memory import ChainInMemory
from support.chains.nodes_in_memory import HONEST, LIAR, Lie, NodesInMemory, Refused, Silent
from support.gateway.clock import MovableClock

THIRD = "http://third.example/"
YES, NO = f"0x{1:064x}", f"0x{0:064x}"
WALLET = Wallet("0x" + "0a" * 20)


def saying(answer: object) -> Lie:
    """What a node says of every signature."""

    def lie(method: str, _params: Sequence[Any], result: Any) -> Any:
        if method != "eth_call":
            return result
        if isinstance(answer, type):
            raise answer
        return answer

    return lie


async def accepted(*answers: object) -> bool:
    """Whether a wallet signed, of which the nodes of its chain say this, in their order."""
    clock = MovableClock()
    nodes = NodesInMemory(ChainInMemory(KNOWN_CHAINS["base"], "0x" + "07" * 20))
    urls = (HONEST, LIAR, THIRD)[: len(answers)]
    nodes.lies = {url: saying(answer) for url, answer in zip(urls, answers, strict=True)}
    contracts = ContractWallets(
        {"base": nodes.client(clock, *urls)},
        default_chain="base",
        limiter=MemoryRateLimiter(clock=clock),
    )
    return await contracts.accept(WALLET, bytes(32), b"\x01", chain=None, client="192.0.2.1")


async def test_yes_of_every_node_is_a_yes() -> None:
    assert await accepted(YES)
    assert await accepted(YES, YES)
    assert await accepted(YES, YES, YES)


async def test_no_of_the_node_that_is_asked_first_is_a_no() -> None:
    assert not await accepted(NO)
    assert not await accepted(NO, YES)


@pytest.mark.parametrize("other", [NO, "0x", f"0x{2:064x}", Silent, Refused])
async def test_one_node_of_two_opens_no_wallet_by_its_word(other: object) -> None:
    with pytest.raises(ChainUnavailable):
        await accepted(YES, other)


@pytest.mark.parametrize("other", [NO, "0x", Silent, Refused])
async def test_two_nodes_of_three_are_believed_whatever_the_third_says(other: object) -> None:
    assert await accepted(YES, YES, other)
    with pytest.raises(ChainUnavailable):
        await accepted(YES, NO, other)
