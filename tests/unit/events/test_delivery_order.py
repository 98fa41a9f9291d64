"""Histories of events, webhooks, failing receivers and restarts, beside a plain model of queues."""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import msgspec
from hypothesis import strategies as st
from hypothesis.stateful import (
    initialize,
    invariant,
    rule,
)

from moorage.auth.rate_limit import MemoryRateLimiter
from moorage.errors import EventNotFound, WebhookNotFound
from moorage.events.delivery import DeliveryWorker, Destinations, NotDelivered, Sender
from moorage.events.webhooks import Webhooks
from moorage.records.event import DeliveryStatus, EventKind
from moorage.storage import events
from moorage.storage.vault import Vault
from support.books.book_model import BookModel, run_histories
from support.books.records_fixture import ALICE, BOB, GATEWAY
from support.gateway.clock import HOUR_MS
from support.gateway.waiting import seen_through

WALLETS = (ALICE, BOB)
ANSWER = st.sampled_from([200, 204, 301, 404, 410, 500, 503, None])
LOOK = st.tuples(
    st.sampled_from([0, 1, 13, 40]), st.fixed_dictionaries(dict.fromkeys(WALLETS, ANSWER))
)
"""Hours that pass, and what each wallet's receiver then answers."""


async def nowhere(host: str) -> list[str]:
    raise AssertionError(f"{host} is not to be looked up")


class Receivers(Sender):
    """Receivers that answer as they are told, and keep what they were sent."""

    def __init__(self) -> None:
        super().__init__(destinations=Destinations(), resolve=nowhere)
        self.answers: dict[str, int | None] = {}  # by wallet; None: no answer
        self.sent: dict[str, list[int]] = {}

    async def post(self, url: str, *, headers: Mapping[str, str], body: bytes) -> int:
        await asyncio.sleep(0)
        self.sent.setdefault(url, []).append(msgspec.json.decode(body)["sequence"])
        answer = self.answers[url.rpartition("/")[2]]
        if answer is None:
            raise NotDelivered("no answer within 10 s")
        return answer


class Waiting(NamedTuple):
    sequence: int
    since_ms: int


class Queues(BookModel):
    def __init__(self) -> None:
        super().__init__()
        self.receivers = Receivers()
        self.restart()
        self.urls: dict[str, str] = {}  # the model: who has which webhook,
        self.waiting: dict[str, list[Waiting]] = {wallet: [] for wallet in WALLETS}  # what waits,
        self.happened: dict[str, int] = dict.fromkeys(WALLETS, 0)  # and how many events there were

    # What happens

    @rule()
    def restart(self) -> None:
        self.worker = DeliveryWorker(
            db=self.db,
            sender=self.receivers,
            vault=Vault([bytes(32)]),
            at_once=2,
            holder=GATEWAY,
            clock=self.clock,
        )
        self.webhooks = Webhooks(
            db=self.db,
            destinations=Destinations(),
            vault=Vault([bytes(32)]),
            strangers=MemoryRateLimiter(clock=self.clock),
            clock=self.clock,
        )

    @rule(wallets=st.lists(st.sampled_from(WALLETS), min_size=1, max_size=5))
    def happen(self, wallets: list[str]) -> None:
        for wallet in wallets:
            self.runner.run(self._record(wallet))
            self.happened[wallet] += 1
            if wallet in self.urls:
                self._wait(wallet, self.happened[wallet])

    @initialize()
    def begin(self) -> None:
        for wallet in WALLETS:
            self.set_webhook(wallet, 1)

    @rule(wallet=st.sampled_from(WALLETS), number=st.integers(1, 3))
    def set_webhook(self, wallet: str, number: int) -> None:
        self.urls[wallet] = f"https://{number}.example/{wallet}"
        self.runner.run(self.webhooks.set(wallet, self.urls[wallet]))

    @rule(wallet=st.sampled_from(WALLETS))
    def remove_webhook(self, wallet: str) -> None:
        try:
            self.runner.run(self.webhooks.remove(wallet))
        except WebhookNotFound:
            assert wallet not in self.urls
        else:
            del self.urls[wallet]
            self.waiting[wallet] = []

    @rule(wallet=st.sampled_from(WALLETS), data=st.data())
    def redeliver(self, wallet: str, data: st.DataObject) -> None:
        sequence = data.draw(st.integers(1, 5))
        try:
            self.runner.run(self._redeliver(wallet, sequence))
        except EventNotFound:
            assert sequence > self.happened[wallet]
        except WebhookNotFound:
            assert wallet not in self.urls
        else:
            self._wait(wallet, sequence)

    @rule(looks=st.lists(LOOK, min_size=1, max_size=12))
    def look(self, looks: list[tuple[int, dict[str, int | None]]]) -> None:
        """Time passes, then one look, whose attempts are seen to their end; several times."""
        for hours, answers in looks:
            self.clock.advance(hours * HOUR_MS + 11_000)
            self.receivers.answers = answers
            turns = {
                wallet: [each.sequence for each in self.waiting[wallet][:1]] for wallet in self.urls
            }
            before = {wallet: self._received(wallet) for wallet in self.urls}
            self.runner.run(self._look())
            for wallet, turn in turns.items():
                new = self._received(wallet)[len(before[wallet]) :]
                assert new in ([], turn)  # never out of turn, never two at a time
                if new:
                    self._model_attempt(wallet, answers[wallet])

    def _model_attempt(self, wallet: str, answer: int | None) -> None:
        if answer == 410:
            del self.urls[wallet]
            self.waiting[wallet] = []
        elif answer in (200, 204) or self._given_up(wallet):
            self.waiting[wallet].pop(0)

    # What must be so

    @invariant()
    def what_waits_is_what_the_model_has(self) -> None:
        for wallet in WALLETS:
            waiting, due = self.runner.run(self._standing(wallet))
            assert waiting == len(self.waiting[wallet])
            assert (due is not None) == bool(waiting)  # nothing that waits is forgotten

    def _received(self, wallet: str) -> list[int]:
        return list(self.receivers.sent.get(self.urls[wallet], []))

    def _wait(self, wallet: str, sequence: int) -> None:
        self.waiting[wallet].append(Waiting(sequence, self.clock.now_ms()))

    def _given_up(self, wallet: str) -> bool:
        """Whether the attempt that failed was the delivery's last: at three days, not at two.

        When within the hours between is for the schedule, which has tests of its own.
        """
        standing = self.runner.run(events.delivery_state(self.db, wallet))
        given_up = standing.status is DeliveryStatus.FAILED
        hours = (self.clock.now_ms() - self.waiting[wallet][0].since_ms) / HOUR_MS
        assert given_up or hours < 72
        assert not given_up or hours > 48
        return given_up

    async def _record(self, wallet: str) -> None:
        async with self.db.transaction(durable=False) as tx:
            await events.record(
                tx, wallet=wallet, kind=EventKind.CREDITS_LOW, data={}, now_ms=self.clock.now_ms()
            )

    async def _redeliver(self, wallet: str, sequence: int) -> None:
        page = await events.of_wallet(self.db, wallet, after=sequence - 1, limit=1)
        await self.webhooks.redeliver(wallet, page[0].id if page else "evt_unknown")

    async def _look(self) -> None:
        await seen_through(self.worker.begin_due())

    async def _standing(self, wallet: str) -> tuple[int, int | None]:
        standing = await events.delivery_state(self.db, wallet)
        return standing.waiting, standing.next_at_ms


def test_wallets_are_told_everything_in_order_whatever_receivers_do(migrated: Path) -> None:
    run_histories(Queues, migrated, histories=40, steps=40)
