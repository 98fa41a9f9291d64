"""What one demand looks like to clients that pay by protocol, demand after demand."""

import base64
import json
import re
from typing import Any

import msgspec
import pytest

from moorage.chains.chain import KNOWN_CHAINS
from moorage.errors import AuthorizationRefused
from moorage.money import AtomicUnits, MicroUsd
from moorage.payments.protocols.evidence import PaymentMeans
from moorage.payments.taking.payment_required import Demand, Preference
from support.gateway.clock import MovableClock
from support.gateway.fakes import PAY_TO, challenges_of, seller_of

ARBITRUM, BASE = KNOWN_CHAINS["arbitrum"], KNOWN_CHAINS["base"]
USDC_OF = {chain.name: chain.tokens[0].address for chain in (ARBITRUM, BASE)}
USDT_OF = {chain.name: chain.tokens[1].address for chain in (ARBITRUM, BASE)}
WALLET = "0x" + "a1" * 20
NO_PREFERENCE = Preference()
URL = "http://127.0.0.1:8000/agent/deploy"


def demanded(
    clock: MovableClock, **given: Any
) -> tuple[list[dict[str, Any]], dict[str, Any] | None]:
    """The requests of the challenges in order, and what x402 clients read."""
    headers = headers_of(clock, **given)
    requests = [
        json.loads(base64.urlsafe_b64decode(found[1] + "=="))
        for name, value in headers
        if name == "WWW-Authenticate" and (found := re.search(r'request="([^"]+)"', value))
    ]
    x402 = [json.loads(base64.b64decode(v)) for name, v in headers if name == "PAYMENT-REQUIRED"]
    return requests, x402[0] if x402 else None


def headers_of(
    clock: MovableClock,
    *,
    settles: bool = True,
    url: str = URL,
    signs_in: bool = True,
    **asked: Any,
) -> list[tuple[str, str]]:
    """The headers of a demand."""
    challenges = challenges_of(clock, ARBITRUM, BASE, settles=settles, signs_in=signs_in)
    return list(challenges.headers(demand(clock, **asked), resource_url=url))


def demand(
    clock: MovableClock,
    *,
    chain: str = "arbitrum",
    token: str = "usdc",
    micro_usd: int = 500_000,
    lives_seconds: int = 1800,
    wallet: str | None = WALLET,
    preference: Preference = NO_PREFERENCE,
    **changed: Any,
) -> Demand:
    """A demand of these means."""
    named = KNOWN_CHAINS[chain]
    coin = named.token(token)
    assert coin is not None
    return Demand(
        amount=MicroUsd(micro_usd),
        balance=MicroUsd(0),
        active_projects=0,
        means=PaymentMeans(named, coin),
        expires_at_ms=clock.now_ms() + 1000 * lives_seconds,
        wallet=wallet,
        body_digest="00" * 32,
        preference=preference,
        **changed,
    )


@pytest.mark.parametrize(
    ("chain", "token", "order"),
    [
        ("arbitrum", "usdc", [USDC_OF["arbitrum"], USDC_OF["base"]]),
        ("base", "usdc", [USDC_OF["base"], USDC_OF["arbitrum"]]),
        ("base", "usdt", [USDC_OF["base"], USDC_OF["arbitrum"]]),
    ],
)
def test_what_can_be_authorized_comes_first_on_the_chain_that_was_named(
    chain: str, token: str, order: list[str]
) -> None:
    named = Preference(chain_named=True)
    requests, x402 = demanded(MovableClock(), chain=chain, token=token, preference=named)
    assert [request["currency"] for request in requests[:2]] == order
    assert requests[2]["currency"] == USDT_OF[chain]
    types = [request["methodDetails"]["credentialTypes"] for request in requests]
    assert types == [["authorization"], ["authorization"], ["hash"], ["hash"]]
    assert x402 is not None
    assert [accepted["asset"] for accepted in x402["accepts"]] == order


HELD_ON_BASE = {("base", "usdc"): AtomicUnits(500_000), ("arbitrum", "usdc"): AtomicUnits(499_999)}


@pytest.mark.parametrize(
    ("preference", "chain", "first"),
    [
        (Preference(held=HELD_ON_BASE), "arbitrum", "base"),
        (Preference(held=HELD_ON_BASE, token_named=True), "arbitrum", "base"),
        (Preference(held=HELD_ON_BASE, chain_named=True), "arbitrum", "arbitrum"),
        (Preference(held={("arbitrum", "usdc"): AtomicUnits(500_000)}), "arbitrum", "arbitrum"),
        (Preference(held={("arbitrum", "usdc"): AtomicUnits(499_999)}), "arbitrum", "base"),
    ],
)
def test_the_chain_where_the_wallet_holds_the_price_comes_first_unless_one_is_named(
    preference: Preference, chain: str, first: str
) -> None:
    requests, x402 = demanded(MovableClock(), chain=chain, preference=preference)
    assert requests[0]["currency"] == USDC_OF[first]
    assert x402 is not None
    assert x402["accepts"][0]["asset"] == USDC_OF[first]


@pytest.mark.parametrize("wallet", [WALLET, None])
def test_base_comes_first_where_nothing_says_otherwise(wallet: str | None) -> None:
    """Clients of mppx read the first challenge alone, and their own tables have base."""
    requests, x402 = demanded(MovableClock(), chain="arbitrum", wallet=wallet)
    assert requests[0]["currency"] == USDC_OF["base"]
    assert x402 is not None
    assert x402["accepts"][0]["asset"] == USDC_OF["base"]


def test_the_operator_says_what_comes_first_where_nothing_else_does() -> None:
    asked = demand(MovableClock())
    seller = msgspec.structs.replace(seller_of(ARBITRUM, BASE), preferred_chain="arbitrum")
    assert seller.options(asked)[0].chain == ARBITRUM


def test_after_a_payment_its_chain_comes_first() -> None:
    because = AuthorizationRefused("it is not valid yet")
    requests, _ = demanded(MovableClock(), chain="arbitrum", because=because)
    assert requests[0]["currency"] == USDC_OF["arbitrum"]


@pytest.mark.parametrize(
    ("because", "first"),
    [
        (AuthorizationRefused("transfer amount exceeds balance", by_chain=True), "arbitrum"),
        (AuthorizationRefused("it is not valid yet"), "base"),
    ],
)
def test_a_chain_that_refused_an_authorization_goes_last(
    because: AuthorizationRefused, first: str
) -> None:
    held = Preference(held={("base", "usdc"): AtomicUnits(500_000)})
    requests, _ = demanded(MovableClock(), chain="base", preference=held, because=because)
    assert requests[0]["currency"] == USDC_OF[first]


def test_a_chain_that_is_named_comes_first_even_when_it_refused() -> None:
    refused = AuthorizationRefused("transfer amount exceeds balance", by_chain=True)
    named = Preference(chain_named=True)
    requests, _ = demanded(MovableClock(), chain="base", preference=named, because=refused)
    assert requests[0]["currency"] == USDC_OF["base"]


def test_means_named_come_first_where_nothing_can_be_authorized() -> None:
    requests, x402 = demanded(MovableClock(), chain="base", token="usdt", settles=False)
    assert requests[0]["currency"] == USDT_OF["base"]
    assert {tuple(request["methodDetails"]["credentialTypes"]) for request in requests} == {
        ("hash",)
    }
    assert x402 is None


def test_every_demand_asks_for_its_own_amount_at_its_own_address() -> None:
    clock = MovableClock()
    for micro_usd in (500_000, 1_250_000, 500_000):
        for url in (URL, URL.replace("deploy", "credits")):
            requests, x402 = demanded(clock, micro_usd=micro_usd, url=url)
            assert x402 is not None
            assert {each["amount"] for each in (*requests, *x402["accepts"])} == {str(micro_usd)}
            assert {each["recipient"].lower() for each in requests} == {PAY_TO.lower()}
            assert {each["payTo"].lower() for each in x402["accepts"]} == {PAY_TO.lower()}
            assert x402["resource"]["url"] == url


def test_each_challenge_names_what_it_is_for_and_its_quote() -> None:
    requests, x402 = demanded(MovableClock(), purpose="Deploy my-app, 1 month", reference="d1f0")
    assert {(each["description"], each["externalId"]) for each in requests} == {
        ("Deploy my-app, 1 month", "d1f0")
    }
    assert x402 is not None
    assert x402["resource"]["description"] == "Deploy my-app, 1 month"


def test_sign_in_is_offered_to_whom_nothing_names_yet() -> None:
    clock, url = MovableClock(), "http://127.0.0.1:8000/deploy"
    offers = [
        demanded(clock, url=url, wallet=None)[1]["extensions"]["sign-in-with-x"]  # type: ignore[index]
        for _ in range(2)
    ]
    told = offers[0]["info"]
    assert told == {
        "domain": "127.0.0.1:8000",
        "uri": url,
        "version": "1",
        "nonce": told["nonce"],
        "issuedAt": "2026-04-07T10:00:00.000Z",
    }
    assert re.fullmatch(r"[A-Za-z0-9]{8,128}", told["nonce"])
    assert told["nonce"] != offers[1]["info"]["nonce"]
    assert offers[0]["supportedChains"] == [
        {"chainId": "eip155:42161", "type": "eip191"},
        {"chainId": "eip155:8453", "type": "eip191"},
    ]
    for given in ({"wallet": WALLET}, {"wallet": None, "signs_in": False}):
        _, x402 = demanded(clock, url=url, **given)
        assert x402 is not None
        assert "sign-in-with-x" not in x402["extensions"]


@pytest.mark.parametrize("wallet", [WALLET, None])
def test_headers_on_two_chains_are_as_small_as_the_documentation_says(wallet: str | None) -> None:
    """As docs/run/README.md has it; a proxy with less room answers a 502 in place of the price."""
    purpose = f"Deploy {'a' * 32}, 24 months"
    url = "https://gateway.example.com/agent/deploy"
    made = headers_of(
        MovableClock(),
        purpose=purpose,
        reference="0" * 36 if wallet else "",
        url=url,
        wallet=wallet,
    )
    size = sum(len(f"{name}: {value}\r\n") for name, value in made)
    assert 4.25 < size / 1024 <= 4.5


def test_known_wallet_is_not_told_what_a_list_of_services_is() -> None:
    for wallet, introduced in ((WALLET, False), (None, True)):
        _, x402 = demanded(MovableClock(), wallet=wallet)
        assert x402 is not None
        assert ("bazaar" in x402["extensions"], "tags" in x402["resource"]) == (introduced,) * 2
        assert "payment-identifier" in x402["extensions"]


@pytest.mark.parametrize(("lives_seconds", "window"), [(1800, 600), (601, 600), (45, 45)])
def test_x402_window_ends_with_the_quote(lives_seconds: int, window: int) -> None:
    _, x402 = demanded(MovableClock(), lives_seconds=lives_seconds)
    assert x402 is not None
    assert {accepted["maxTimeoutSeconds"] for accepted in x402["accepts"]} == {window}
