"""Keys are free: what any number of them may take at one address of a real gateway."""

import asyncio
import secrets
import sqlite3
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass

import aiohttp
import pytest
from neighbour import settle

from support.clients.wallet import HELLO, Wallet, deploy_body, fresh_name
from support.gateway.gateway_fixture import DevGateway, running

pytestmark = pytest.mark.root

PER_MINUTE = 30
"""What the gateway lets a wallet ask, as operators get it."""

ADDRESS = 10 * PER_MINUTE
"""And all wallets of an address that never paid."""


@dataclass
class Answered:
    """The part of an answer that tells how a stranger fared."""

    status: int
    code: str
    retry_after: str | None


class Stranger:
    """Somebody with one address of the loopback, one connection, and any number of keys."""

    def __init__(self, gateway: DevGateway, session: aiohttp.ClientSession) -> None:
        self.gateway = gateway
        self._session = session

    def fresh_headers(self) -> dict[str, str]:
        """Of a key that nobody has used."""
        return Wallet(self.gateway).signed()

    async def ask(
        self, method: str, path: str, headers: Mapping[str, str], json: object = None
    ) -> Answered:
        async with self._session.request(
            method, self.gateway.url + path, json=json, headers=headers
        ) as response:
            body = await response.json()
            return Answered(
                response.status, body.get("code", ""), response.headers.get("Retry-After")
            )


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevGateway]:
    settings = {"requests_per_minute": str(PER_MINUTE), "payment_wait_seconds": "1"}
    with running(tmp_path_factory.mktemp("free-keys"), **settings) as started:
        yield started


@pytest.fixture
async def stranger(gateway: DevGateway, request: pytest.FixtureRequest) -> AsyncIterator[Stranger]:
    """At an address of its own, as each test counts from nothing."""
    connector = aiohttp.TCPConnector(limit=1, local_addr=(request.param, 0))
    async with aiohttp.ClientSession(connector=connector) as session:
        yield Stranger(gateway, session)


def rows(gateway: DevGateway, table: str) -> int:
    with closing(sqlite3.connect(gateway.data_dir / "moorage.db")) as connection:
        return int(connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0])


def refused(answers: list[Answered]) -> list[Answered]:
    return [answer for answer in answers if answer.status == 429]


# The neighbour is at the address of the first: it has paid.
@pytest.mark.parametrize("stranger", ["127.0.0.1"], indirect=True)
async def test_nine_hundred_names_under_fresh_keys_are_held_up_and_a_neighbour_is_not(
    gateway: DevGateway, stranger: Stranger
) -> None:
    neighbour = await settle(gateway)
    held = rows(gateway, "quotes")
    async with neighbour.unharmed():
        answers = [
            await stranger.ask(
                "POST",
                "/agent/deploy",
                stranger.fresh_headers(),
                deploy_body(fresh_name(), HELLO),
            )
            for _ in range(900)
        ]
    counted = Counter(answer.status for answer in answers)
    assert set(counted) == {402, 429}
    assert counted[402] <= PER_MINUTE
    assert all(int(answer.retry_after or 0) > 0 for answer in refused(answers))
    assert rows(gateway, "quotes") - held <= PER_MINUTE


@pytest.mark.parametrize("stranger", ["127.0.7.1"], indirect=True)
async def test_webhooks_of_fresh_keys_are_few(gateway: DevGateway, stranger: Stranger) -> None:
    before = rows(gateway, "webhooks")
    answers = [
        await stranger.ask(
            "PUT", "/agent/webhook", stranger.fresh_headers(), {"url": "https://example.com/"}
        )
        for _ in range(100)
    ]
    assert Counter(answer.status for answer in answers) == {200: PER_MINUTE, 429: 100 - PER_MINUTE}
    assert all(int(answer.retry_after or 0) > 0 for answer in refused(answers))
    assert rows(gateway, "webhooks") - before == PER_MINUTE


@pytest.mark.parametrize("stranger", ["127.0.7.2"], indirect=True)
async def test_nonce_of_a_refused_request_is_good_for_it_later(
    gateway: DevGateway, stranger: Stranger
) -> None:
    for _ in range(ADDRESS):
        asked = await stranger.ask("GET", "/agent/projects", stranger.fresh_headers())
        assert asked.status == 200
    headers = stranger.fresh_headers()
    assert (await stranger.ask("GET", "/agent/projects", headers)).status == 429

    elsewhere = aiohttp.TCPConnector(local_addr=("127.0.7.3", 0))
    async with aiohttp.ClientSession(connector=elsewhere) as session:
        later = Stranger(gateway, session)
        assert (await later.ask("GET", "/agent/projects", headers)).status == 200
        again = await later.ask("GET", "/agent/projects", headers)
        assert (again.status, again.code) == (401, "nonce_reused")


@pytest.mark.parametrize("stranger", ["127.0.7.4"], indirect=True)
async def test_made_up_payments_are_pending_and_a_newcomers_is_taken(
    gateway: DevGateway, stranger: Stranger
) -> None:
    made_up = [f"0x{secrets.token_hex(32)}" for _ in range(20)]
    answers = [
        await stranger.ask(
            "POST",
            "/agent/credits",
            stranger.fresh_headers() | {"X-Payment-Tx": tx_hash},
        )
        for tx_hash in made_up
        for _ in range(ADDRESS // len(made_up) + 1)
    ]
    assert {(answer.status, answer.code) for answer in answers} == {(402, "payment_pending")}
    assert all(int(answer.retry_after or 0) > 0 for answer in answers)

    elsewhere = aiohttp.TCPConnector(local_addr=("127.0.7.5", 0))
    async with aiohttp.ClientSession(connector=elsewhere) as session:
        assert await topped_up(Stranger(gateway, session)) == [200]
    # At the same address, whose share is used up, a payment is found all the same.
    assert (await topped_up(stranger))[-1] == 200


async def topped_up(newcomer: Stranger) -> list[int]:
    """The statuses that a new wallet gets at this address, until its payment is taken."""
    wallet = await Wallet(newcomer.gateway).fund()
    tx_hash, answers = await wallet.pay(500_000), list[int]()
    async with asyncio.timeout(60):
        while 200 not in answers:
            headers = wallet.signed() | {"X-Payment-Tx": tx_hash}
            answers.append((await newcomer.ask("POST", "/agent/credits", headers)).status)
            await asyncio.sleep(3)
    return answers
