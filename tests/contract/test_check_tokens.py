"""What `moorage check` says of tokens, as a real node shows them."""

import msgspec
import pytest

from moorage.chains.chain import Chain, Token
from moorage.chains.eip3009 import Eip712Domain
from moorage.operate.check.nodes import TokenFacts, check_tokens, judge_token
from support.chains.chain_fixture import LocalChains

RIGHT = '{ name = "USD Coin", version = "2" }'


async def finding(chain: Chain, token: Token, **changed: object) -> tuple[bool, str, str]:
    configured = msgspec.structs.replace(token, **changed)
    (found,) = await check_tokens([msgspec.structs.replace(chain, tokens=(configured,))])
    assert found.name == f"{token.name} on {chain.name}"
    return found.ok, found.detail, found.remedy


async def test_each_token_says_how_it_can_be_paid_and_a_wrong_domain_what_mends_it(
    local_chains: LocalChains,
) -> None:
    chain = local_chains.base
    usdc, usdt = chain.tokens
    assert await finding(chain, usdc) == (True, f"without gas, or by transfers: {RIGHT}", "")
    assert await finding(chain, usdt) == (
        True,
        "by transfers alone: it has no EIP-3009",
        "",
    )

    ok, detail, remedy = await finding(
        chain, usdc, authorization=Eip712Domain(name="USDC", version="2")
    )
    assert (ok, remedy) == (
        False,
        f"set authorization of usdc in chains.base.tokens: {RIGHT}",
    )
    assert detail.startswith('its EIP-712 domain is not { name = "USDC", version = "2" }')

    ok, detail, _ = await finding(chain, usdc, authorization=None)
    assert ok
    assert detail.endswith(f"set authorization of usdc in chains.base.tokens: {RIGHT}")

    ok, _, remedy = await finding(chain, usdt, authorization=usdc.authorization)
    assert (ok, remedy) == (False, "leave out authorization of usdt in chains.base.tokens")


async def test_chain_that_cannot_be_asked_is_one_finding(local_chains: LocalChains) -> None:
    silent = msgspec.structs.replace(local_chains.base, rpc_urls=("http://127.0.0.1:9/",))
    found = {each.name: each for each in await check_tokens([silent, local_chains.arbitrum])}
    assert set(found) == {"chain base", "usdc on arbitrum", "usdt on arbitrum"}
    assert not found["chain base"].ok
    assert found["chain base"].remedy == "set chains.base.rpc_urls right"


@pytest.mark.parametrize(
    ("mine", "ok"), [(None, True), (Eip712Domain(name="USD Coin", version="2"), False)]
)
def test_domain_that_a_token_does_not_tell_is_never_guessed(
    local_chains: LocalChains, mine: Eip712Domain | None, *, ok: bool
) -> None:
    chain = local_chains.base
    token = msgspec.structs.replace(chain.tokens[0], authorization=mine)
    told = (Eip712Domain(name="Bridged", version="1"),)
    for separator in (b"\1" * 32, None):
        facts = TokenFacts(authorizes=True, separator=separator, domains=told)
        found = judge_token(chain, token, facts)
        assert (found.ok, "does not tell" in found.detail) == (ok, True)
        assert "Bridged" not in found.detail + found.remedy
