"""The page at `/` tells how well the gateway is, as it is now, and never why."""

import re

import pytest
from starlette.testclient import TestClient

from moorage.api.discovery.documents import PublicPage, PublicStatusBoard
from moorage.errors import DatabaseUnavailable
from support.gateway.clock import MovableClock
from support.gateway.discovery_facts import FACTS

WELL = {"database": "ok", "runtime": "ok", "proxy": "ok", "disk": "ok", "chain base": "ok"}


class Gateway:
    """A public page over notices and parts that a test sets."""

    def __init__(self) -> None:
        self.notices: dict[str, str] = {}
        self.has_database = True
        self.clock = MovableClock(1_800_000_000_000)
        self.board = PublicStatusBoard(self._read, chains=("arbitrum", "base"), clock=self.clock)
        self._client = TestClient(PublicPage(FACTS, self.board, ()))

    async def _read(self) -> dict[str, str]:
        if not self.has_database:
            raise DatabaseUnavailable
        return self.notices

    def shown(self) -> str:
        self.clock.advance(11_000)
        return self._client.get("/").text

    def states(self) -> dict[str, str]:
        states = {}
        for row in re.split(r'<th scope="row">|<dt>', self.shown())[1:]:
            if badge := re.search(r'<span class="badge \w+">([^<]+)</span>', row):
                states[re.split(" ?<", row)[0]] = badge[1]
        return states


@pytest.fixture
def gateway() -> Gateway:
    return Gateway()


def test_a_gateway_that_works_says_so(gateway: Gateway) -> None:
    gateway.board.note(WELL)
    assert set(gateway.states().values()) == {"Works"}
    assert "2027-01-15 08:00:00 UTC" in gateway.shown()


def test_a_disturbed_part_is_told_without_its_reason(gateway: Gateway) -> None:
    gateway.board.note(WELL | {"chain base": "http://secret-node:8545 does not answer"})
    states = gateway.states()
    assert states["base"] == "Disturbed"
    assert states["arbitrum"] == "Works"
    assert "secret-node" not in gateway.shown()


def test_maintenance_and_announcement_are_told_as_text(gateway: Gateway) -> None:
    gateway.notices = {"maintenance": "until <b>noon</b>", "announcement": "new prices in May"}
    assert gateway.states()["New deploys"] == "Maintenance"
    assert "until &lt;b&gt;noon&lt;/b&gt;" in gateway.shown()
    assert "new prices in May" in gateway.shown()


def test_a_gateway_without_its_database_still_shows_the_page(gateway: Gateway) -> None:
    gateway.board.note(WELL)
    gateway.has_database = False
    assert gateway.states()["New deploys"] == "Disturbed"


def test_visitors_within_ten_seconds_cost_one_page(gateway: Gateway) -> None:
    gateway.shown()
    gateway.notices = {"announcement": "later"}
    gateway.clock.advance(9_000)
    client = TestClient(PublicPage(FACTS, gateway.board, ()))
    assert "later" in client.get("/").text
    gateway.notices = {}
    gateway.clock.advance(9_000)
    assert "later" in client.get("/").text
    gateway.clock.advance(1_000)
    assert "later" not in client.get("/").text
