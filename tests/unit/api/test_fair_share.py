"""How the event loop is shared among requests, each of which is at work in steps."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from starlette.requests import Request
from starlette.types import Message, Receive, Scope, Send

from moorage.api.http.connections import WAITING, WAITING_OF_ONE, FairShare
from moorage.api.http.request_context import HAS_PAID

STEP_SECONDS = 0.005
PAYING = "paying"
FLOOD = [f"10.0.0.{number}" for number in range(50)]


@dataclass
class Gateway:
    """An app whose requests take some steps of `STEP_SECONDS` each, by a clock of its own.

    A request's path is how many steps it takes; those of `PAYING` are known to have paid after
    their first one.
    """

    now: float = 0.0
    steps: list[str] = field(default_factory=list)  # of whom, in the order in which they were run
    canceled: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.share = FairShare(self._app, address_of=address_of, clock=lambda: self.now)

    async def _app(self, scope: Scope, receive: Receive, send: Send) -> None:
        del receive
        address = scope["client"][0]
        if scope["path"] == "fails":
            raise ValueError(address)
        try:
            for _ in range(int(scope["path"])):
                self._work(address)
                if address == PAYING:
                    scope[HAS_PAID] = True
                await asyncio.sleep(0)
        except asyncio.CancelledError:
            self.canceled.append(address)
            raise
        await send({"type": "http.response.start", "status": 200})

    def _work(self, address: str) -> None:
        self.steps.append(address)
        self.now += STEP_SECONDS

    def ask(self, address: str, steps: object = 1) -> asyncio.Task[int]:
        """Sends a request; the task returns its status."""
        return asyncio.create_task(self._answer(address, str(steps)))

    async def _answer(self, address: str, path: str) -> int:
        answered: list[Message] = []
        scope = {"type": "http", "client": (address, 1), "path": path, "headers": []}
        await self.share(scope, nothing, collected(answered))
        return int(answered[0]["status"])


def address_of(request: Request) -> str:
    assert request.client is not None
    return request.client.host


async def nothing() -> Message:
    return {"type": "http.disconnect"}


def collected(answered: list[Message]) -> Callable[[Message], Awaitable[None]]:
    async def send(message: Message) -> None:
        answered.append(message)

    return send


async def statuses(requests: list[asyncio.Task[int]]) -> set[int]:
    return set(await asyncio.gather(*requests))


async def begun(gateway: Gateway) -> list[asyncio.Task[int]]:
    """A flood of which every address has used the loop thrice, and waits to use it again."""
    flood = [gateway.ask(address, 20) for address in FLOOD]
    while any(gateway.steps.count(address) < 3 for address in FLOOD):
        await asyncio.sleep(0)
    return flood


@pytest.fixture
def gateway() -> Gateway:
    return Gateway()


async def test_of_a_flood_one_step_is_run_between_two_of_who_has_paid(gateway: Gateway) -> None:
    flood = await begun(gateway)
    before = len(gateway.steps)
    assert await gateway.ask(PAYING, 10) == 200
    # It begins as a newcomer, behind two that have their turns; each step then waits for one.
    assert len(gateway.steps) - before - 10 <= 2 + 10
    assert await statuses(flood) == {200}
    assert len(gateway.steps) == 50 * 20 + 10


async def test_newcomer_goes_before_a_flood(gateway: Gateway) -> None:
    flood = await begun(gateway)
    before = len(gateway.steps)
    assert await gateway.ask("192.0.2.7", 1) == 200
    assert len(gateway.steps) - before <= 1 + 2 * 2  # two others for each of its two turns
    assert await statuses(flood) == {200}


async def test_addresses_take_turns_however_many_requests_one_of_them_sends(
    gateway: Gateway,
) -> None:
    many = [gateway.ask("10.0.0.1", 4) for _ in range(30)]
    few = [gateway.ask("10.0.0.2", 4) for _ in range(3)]
    assert await statuses(few) == {200}
    assert gateway.steps.count("10.0.0.1") <= gateway.steps.count("10.0.0.2") + 3
    assert await statuses(many) == {200}


async def test_what_a_paid_wallet_uses_is_not_charged_to_its_address(gateway: Gateway) -> None:
    """Others at that address, which may be a company's, are newcomers as before."""
    assert await gateway.ask(PAYING, 1_000) == 200
    gateway.steps.clear()
    others = [gateway.ask(address, 2) for address in FLOOD]
    same = gateway.ask(PAYING)
    assert await same == 200
    assert gateway.steps.index(PAYING) <= len(FLOOD)
    assert await statuses(others) == {200}


async def test_what_was_used_while_nobody_waited_does_not_count(gateway: Gateway) -> None:
    assert await gateway.ask("10.0.0.1", 200) == 200
    gateway.steps.clear()
    requests = [gateway.ask(address, 3) for address in ("10.0.0.2", "10.0.0.1", "10.0.0.3")]
    assert await statuses(requests) == {200}
    assert gateway.steps[:3] == ["10.0.0.2", "10.0.0.1", "10.0.0.3"]


async def test_only_so_many_requests_of_an_address_wait(gateway: Gateway) -> None:
    requests = [gateway.ask("10.0.0.1") for _ in range(WAITING_OF_ONE + 1 + 1)]
    answered = await asyncio.gather(*requests)
    assert answered.count(429) == 1
    assert await gateway.ask("10.0.0.1") == 200


async def test_however_many_wait_an_address_without_any_is_let_wait(gateway: Gateway) -> None:
    addresses = WAITING // WAITING_OF_ONE + 1
    flood = [
        gateway.ask(f"10.0.1.{number}")
        for number in range(addresses)
        for _ in range(WAITING_OF_ONE)
    ]
    newcomer = gateway.ask("192.0.2.7")
    assert await newcomer == 200
    assert await statuses(flood) == {200, 429}


async def test_refusal_says_what_it_means_for_a_payment(gateway: Gateway) -> None:
    flood = [gateway.ask("10.0.0.1") for _ in range(WAITING_OF_ONE + 1)]
    await asyncio.sleep(0)
    answered: list[Any] = []
    scope = {"type": "http", "client": ("10.0.0.1", 1), "path": "1", "headers": []}
    await gateway.share(scope, nothing, collected(answered))
    assert answered[0]["status"] == 429
    assert (b"retry-after", b"2") in answered[0]["headers"]
    assert b"do not pay again: send the same request once more" in answered[1]["body"]
    assert await statuses(flood) == {200}


async def test_canceled_request_hears_of_it_and_holds_up_nobody(gateway: Gateway) -> None:
    requests = [gateway.ask(address, 20) for address in FLOOD]
    for _ in range(60):
        await asyncio.sleep(0)
    for each in requests[:10]:
        each.cancel()
    answered = await asyncio.gather(*requests, return_exceptions=True)
    assert sum(isinstance(each, asyncio.CancelledError) for each in answered) == 10
    assert sorted(gateway.canceled) == sorted(FLOOD[:10])
    assert answered[10:] == [200] * 40


async def test_request_canceled_before_its_turn_frees_its_place(gateway: Gateway) -> None:
    flood = [gateway.ask("10.0.0.1") for _ in range(WAITING_OF_ONE + 1)]
    await asyncio.sleep(0)
    for each in flood:
        each.cancel()
    await asyncio.gather(*flood, return_exceptions=True)
    again = [gateway.ask("10.0.0.1") for _ in range(WAITING_OF_ONE)]
    assert await statuses(again) == {200}


async def test_failure_of_the_app_is_passed_on(gateway: Gateway) -> None:
    with pytest.raises(ValueError, match=r"10\.0\.0\.1"):
        await gateway.ask("10.0.0.1", "fails")
    assert await gateway.ask("10.0.0.1") == 200
