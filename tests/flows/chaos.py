"""What happens to two gateways and their servers by chance, and clients who pay meanwhile."""

import asyncio
import random
import signal
import time
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from support.books.postgres_fixture import PostgresServer
from support.clients.protocols import demanded, payment_signature
from support.clients.wallet import HELLO, Answer, Wallet, call, deploy_body, fresh_name
from support.gateway.members import Member, Pair

DEMANDS = ("WWW-Authenticate", "PAYMENT-REQUIRED")
"""Headers that clients pay for without asking anybody."""

SETTLED = (200, 409)
"""Answers to what was paid for that say what became of it."""

SECOND_THOUGHTS = 0.1
STANDS_SECONDS = 2.0
PATIENCE_SECONDS = 180.0  # only to end a hung test
APPS = 3  # that a client has at most
TOP_UP = 1_000_000


@dataclass
class Chaos:
    """The faults, one after the other; gateways that end are started again, as by systemd."""

    pair: Pair
    postgres: PostgresServer
    chance: random.Random
    happened: Counter[str] = field(default_factory=Counter)
    _calm: bool = False

    async def run(self, *, seconds: float, every_seconds: float) -> None:
        """Goes on for `seconds`; at the end both gateways and their servers run."""
        keeping = [asyncio.create_task(self._keep(member)) for member in self.pair.members]
        faults = [self._kill, self._kill, self._restart_postgres, self._stop_the_clock]
        end = time.monotonic() + seconds
        turn = 0
        while time.monotonic() < end:
            if turn % len(faults) == 0:
                self.chance.shuffle(faults)
            await faults[turn % len(faults)]()
            turn += 1
            await asyncio.sleep(every_seconds)
        self._calm = True
        await asyncio.gather(*keeping)

    async def _keep(self, member: Member) -> None:
        """Starts a gateway whenever it has ended, until there are no faults any more."""
        while not (self._calm and member.runs):
            if not member.runs:
                try:
                    await asyncio.to_thread(member.start)
                except AssertionError:  # its database was away; it said so and ended
                    self.happened["failed start"] += 1
            await asyncio.sleep(0.05)

    async def _kill(self) -> None:
        ready = [member for member in self.pair.members if member.runs and not member.starts]
        member = self.chance.choice(ready or self.pair.members)
        what = "starting one" if member.starts else "leader" if member.keeps else "other"
        self._note(f"{what} killed")
        await asyncio.to_thread(member.kill)

    async def _stop_the_clock(self) -> None:
        member = self.chance.choice(self.pair.members)
        if member.starts:
            return
        self._note("stood still")
        member.signal(signal.SIGSTOP)
        await asyncio.sleep(STANDS_SECONDS)
        member.signal(signal.SIGCONT)

    async def _restart_postgres(self) -> None:
        self._note("postgres restarted")
        await asyncio.to_thread(self.postgres.restart)

    def _note(self, what: str) -> None:
        self.happened[what] += 1


@dataclass
class Client:
    """One wallet that deploys, tops up and visits; it insists on what it has paid for."""

    pair: Pair
    chance: random.Random
    wallet: Wallet
    sent: list[int] = field(default_factory=list)
    """What it paid, in micro-USD."""

    apps: list[tuple[str, Answer]] = field(default_factory=list)
    deployed: int = 0
    answers: Counter[str] = field(default_factory=Counter)
    longest_seconds: float = 0.0
    """How long it waited at most for what it had paid for."""

    async def live(self, until_seconds: float) -> None:
        """Does one thing after the other until then, and ends what it has begun."""
        acts: list[Callable[[], Awaitable[None]]]
        acts = [self._deploy, self._top_up_by_hash, self._top_up_by_signature]
        while time.monotonic() < until_seconds:
            await self.chance.choice(acts)()

    async def outcome(self, paid: Answer) -> str:
        """The status of a deployment once it is no longer under way."""
        project, deployment = paid.body["projectId"], paid.body["deploymentId"]
        path = f"/agent/deploy/{project}/{deployment}/status"
        while True:
            answer = await self._until("GET", path, (200,))
            if answer.body["status"] != "deploying":
                return str(answer.body["status"])
            await asyncio.sleep(SECOND_THOUGHTS)

    async def _deploy(self) -> None:
        name = fresh_name()
        body, key = deploy_body(name, HELLO), {"Idempotency-Key": str(uuid.uuid4())}
        answer = await self._until("POST", "/agent/deploy", (200, 402), json=body, headers=key)
        if answer.status == 402:  # else its credits have paid
            amount = int(answer.body["amount_token"])
            proof = {"X-Payment-Tx": await self.wallet.pay(amount)}
            self.sent.append(amount)
            answer = await self._insist("/agent/deploy", key | proof, json=body)
        self.deployed += 1
        self.apps.append((name, answer))
        if len(self.apps) > APPS:
            await self._delete(self.apps.pop(0)[1])

    async def _delete(self, paid: Answer) -> None:
        path = f"/agent/projects/{paid.body['projectId']}"
        await self._until("DELETE", path, (200, 404))

    async def _top_up_by_hash(self) -> None:
        amount = TOP_UP + self.chance.randrange(1000)
        proof = {"X-Payment-Tx": await self.wallet.pay(amount)}
        self.sent.append(amount)
        await self._insist("/agent/credits", proof, json=None)

    async def _top_up_by_signature(self) -> None:
        body = {"amount_usd": TOP_UP / 1_000_000}
        asked = await self._until("POST", "/agent/credits", (402,), json=body)
        proof = payment_signature(self.wallet, demanded(asked)["accepts"][0])
        self.sent.append(TOP_UP)
        await self._insist("/agent/credits", proof, json=body)

    async def _insist(self, path: str, proof: dict[str, str], *, json: Any) -> Answer:
        began = time.monotonic()
        answer = await self._until("POST", path, SETTLED, json=json, headers=proof, paid=True)
        self.longest_seconds = max(self.longest_seconds, time.monotonic() - began)
        return answer

    async def _until(
        self,
        method: str,
        path: str,
        statuses: tuple[int, ...],
        *,
        json: Any = None,
        headers: dict[str, str] | None = None,
        paid: bool = False,
    ) -> Answer:
        """Asks one of the gateways, and then again, until it is answered so."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                answer = await self._ask(method, path, json, headers or {})
                if answer is not None:
                    if paid:
                        self._judge(answer)
                    if answer.status in statuses:
                        return answer
                    assert answer.body["retryable"] or answer.status == 402, answer
                await asyncio.sleep(SECOND_THOUGHTS)

    async def _ask(
        self, method: str, path: str, json: Any, further: dict[str, str]
    ) -> Answer | None:
        """One request; None without an answer."""
        member = self.chance.choice(self.pair.members)
        try:
            headers = self.wallet.signed() | further
            answer = await call(member, method, path, json=json, headers=headers)
        except (aiohttp.ClientError, OSError):
            self.answers["none"] += 1
            return None
        self.answers[f"{answer.status} {answer.body.get('code', '')}"] += 1
        return answer

    def _judge(self, answer: Answer) -> None:
        """Who has paid is never asked to pay again."""
        assert "amount_token" not in answer.body, answer
        assert not any(name in answer.headers for name in DEMANDS), answer
        if answer.status == 402 or answer.body.get("code") == "payment_pending":
            assert answer.body["payment"]["do_not_pay_again"], answer


@dataclass
class Visitor:
    """Somebody who visits apps again and again: they go on, whatever becomes of the gateways."""

    clients: list[Client]
    chance: random.Random
    served: set[str] = field(default_factory=set)
    visits: int = 0
    lapses: list[tuple[str, int]] = field(default_factory=list)
    """What apps answered that had served before, other than 200."""

    async def live(self, until_seconds: float) -> None:
        """Goes on until then."""
        while time.monotonic() < until_seconds:
            found = [(client, *app) for client in self.clients for app in client.apps]
            if found:
                await self._visit(*self.chance.choice(found))
            await asyncio.sleep(0.05)

    async def _visit(self, client: Client, name: str, paid: Answer) -> None:
        status = 0
        with suppress(aiohttp.ClientError, OSError):
            status = (await client.wallet.visit(name))[0]
        self.visits += 1
        if status == 200:
            self.served.add(name)
        elif name in self.served and (name, paid) in client.apps:  # it was not deleted meanwhile
            self.lapses.append((name, status))
