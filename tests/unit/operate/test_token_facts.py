"""What a token's contract says of its EIP-712 domain, however it says it."""

from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest
from eth_abi.abi import encode

from moorage.chains.chain import KNOWN_CHAINS
from moorage.chains.eip3009 import Eip712Domain
from moorage.chains.rpc import RpcClient, RpcError
from moorage.errors import ChainUnavailable
from moorage.operate.check.nodes import TokenFacts, read_tokens

CHAIN = KNOWN_CHAINS["arbitrum-sepolia"]
SEPARATOR = "0x" + "5e" * 32
UNUSED = "0x" + "00" * 32
REFUSED = RpcError("eth_call", 3, "execution reverted")
EIP_5267 = ["bytes1", "string", "string", "uint256", "address", "bytes32", "uint256[]"]


def encoded(kinds: list[str], *values: object) -> str:
    return "0x" + encode(kinds, values).hex()


async def facts(*answers: object) -> TokenFacts:
    """Answers to DOMAIN_SEPARATOR, eip712Domain, name, version, authorizationState."""

    async def batch(calls: list[Any]) -> list[object]:
        assert len(calls) == len(answers)
        return list(answers)

    (found,) = await read_tokens(cast("RpcClient", SimpleNamespace(chain=CHAIN, batch=batch)))
    return found


async def test_domain_is_told_by_eip_5267_or_by_name_and_version() -> None:
    address = CHAIN.tokens[0].address
    domain = encoded(EIP_5267, b"\x0f", "USD₮0", "1", CHAIN.chain_id, address, b"", [])
    named = encoded(["string"], "Tether USD"), encoded(["string"], "7")
    told = await facts(SEPARATOR, domain, *named, UNUSED)
    assert told == TokenFacts(
        authorizes=True,
        separator=bytes.fromhex("5e" * 32),
        domains=(
            Eip712Domain(name="USD₮0", version="1"),
            Eip712Domain(name="Tether USD", version="7"),
        ),
    )
    only_named = await facts(SEPARATOR, REFUSED, *named, UNUSED)
    assert only_named == msgspec.structs.replace(told, domains=told.domains[1:])


async def test_node_that_does_not_say_whether_a_token_authorizes_is_not_taken_for_a_no() -> None:
    silent = [REFUSED] * 4
    assert not (await facts(*silent, REFUSED)).authorizes
    for refusal in (RpcError("eth_call", -32005, "limit exceeded"), RpcError("eth_call", 429, "")):
        with pytest.raises(ChainUnavailable):
            await facts(*silent, refusal)


@pytest.mark.parametrize(
    "wrong",
    [
        *(REFUSED, None, 7, "", "0x", "0x0", "no hex", "0x" + "ff" * 96),
        encoded(["string"], "x" * 129),
        encoded(["string"], "cut")[:-64],
        encoded(["bytes"], b"\xff\xfe"),
    ],
)
async def test_answer_that_makes_no_sense_tells_nothing(wrong: object) -> None:
    assert await facts(*[wrong] * 5) == TokenFacts(authorizes=False, separator=None, domains=())
