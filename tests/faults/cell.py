"""One cell of the matrix: a wallet that pays for one app while something goes wrong."""

import asyncio

import aiohttp
import books
from stage import BETWEEN_LOOKS_SECONDS, CHAIN, PATIENCE_SECONDS, Stage
from ways import PRICE, Proof, Way, by_hash, by_transaction

from support.chains.paying import mine, rpc
from support.clients.wallet import HELLO, Answer, Wallet, fresh_name
from support.gateway.waiting import until

SETTLED = (200, 409)
"""Answers that carry the ids of what was paid for."""

DEMANDS = ("WWW-Authenticate", "PAYMENT-REQUIRED")
"""Headers that clients pay for without asking anybody."""

SENT_BY_THE_WALLET = (by_transaction, by_hash)


class Cell:
    """A client that pays once, and insists with the same proof until it has its app."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.wallet = Wallet(stage)
        self.name = fresh_name()
        self.first_block = 0
        self.misled = False  # by a lie that nothing contradicts
        self.rpc_url: str = stage.info["chains"][CHAIN]["rpc_url"]
        self.answers: list[Answer] = []
        self._way: Way = by_transaction
        self._proof: Proof = {}

    async def pay(self, way: Way) -> None:
        """Get tokens, in blocks of its own, and pay."""
        await self.wallet.fund()
        await mine(self.rpc_url)
        self.first_block = int(await rpc(self.rpc_url, "eth_blockNumber"), 16)
        self._way = way
        self._proof = await way(self.wallet, self.name)

    async def send(self) -> Answer | None:
        """The paid request; None when the gateway died of it. Every answer is judged."""
        try:
            answer = await self.wallet.deploy(self.name, HELLO, headers=self._proof)
        except aiohttp.ClientError:
            return None
        self.answers.append(answer)
        self._judge(answer)
        return answer

    @property
    def paid_by(self) -> str:
        """The transaction that the wallet sent itself."""
        return self._proof["X-Payment-Tx"]

    @property
    def _denied(self) -> bool:
        return self.misled and self._way in SENT_BY_THE_WALLET

    async def insist(self) -> Answer:
        """Send it until it is answered with ids."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                answer = await self.send()
                if answer is not None and answer.status in SETTLED:
                    return answer
                await asyncio.sleep(0.02)

    def _judge(self, answer: Answer) -> None:
        """Who has paid is never asked to pay again, and a credit is never followed by a 5xx.

        Unless the node denies what the wallet sent itself: then the same proof counts later. What
        the gateway sent is pending until the chain can't change its mind.
        """
        if self._denied and answer.body.get("code") == "payment_not_found":
            return
        assert "amount_token" not in answer.body, answer
        assert not any(name in answer.headers for name in DEMANDS), answer
        if answer.status == 402:
            assert answer.body["code"] == "payment_pending", answer
        if answer.body.get("code") == "payment_pending":  # a credit may follow at any moment
            assert answer.body["payment"]["do_not_pay_again"], answer
        elif answer.status >= 500:
            assert answer.body["retryable"], answer
            assert books.credited(self.stage, self.wallet) == 0, answer

    async def until_ready(self, settled: Answer) -> None:
        """Wait for the app, as the client sees it."""
        await until(
            lambda: set(books.deployments(self.stage, self.wallet)) <= {"ready", "failed"},
            pause_seconds=BETWEEN_LOOKS_SECONDS,
        )
        status = await self.wallet.settled(settled, within_seconds=PATIENCE_SECONDS)
        assert status["status"] == "ready", status

    async def check(self) -> None:
        """One payment, one deployment, and every micro-dollar in its place."""
        assert books.deployments(self.stage, self.wallet) == ["ready"]
        assert await books.arrived(self.stage, self.wallet) == PRICE
        spent = books.spent(self.stage, self.wallet)
        assert books.credited(self.stage, self.wallet) == PRICE
        assert books.balance(self.stage, self.wallet) + spent == PRICE
        findings = await self.stage.audit()
        assert findings == [], findings
