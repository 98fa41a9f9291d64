"""What wallets hold on chains, as far as it is known without waiting: it orders what is offered."""

import asyncio
from collections import OrderedDict
from collections.abc import Mapping
from contextlib import suppress

from moorage.auth.rate_limit import RateLimiter
from moorage.chains.balances import token_balances
from moorage.chains.rpc import RpcClient
from moorage.clock import Clock
from moorage.errors import ChainUnavailable, RateLimited
from moorage.money import AtomicUnits

Held = Mapping[tuple[str, str], AtomicUnits]
"""Balances by the names of chain and token; what is missing is not known."""

NOTHING_KNOWN: Held = {}
_WAIT_SECONDS = 0.004
"""How long an answer may wait for a look that is under way."""

_FRESH_SECONDS = 15
_REMEMBERED = 1024  # wallets
_WAITING = 64
_AT_ONCE = 8


class Holdings:
    """Looks at balances in the background; all of it is bounded, and nothing of it can fail.

    `strangers` limits, by client address, the looks at wallets that never paid.
    """

    def __init__(
        self, clients: Mapping[str, RpcClient], *, strangers: RateLimiter, clock: Clock
    ) -> None:
        self._clients = clients
        self._strangers = strangers
        self._clock = clock
        self._known: OrderedDict[str, tuple[float, Held]] = OrderedDict()
        self._under_way: dict[str, asyncio.Event] = {}
        self._waiting: asyncio.Queue[str] = asyncio.Queue(_WAITING)

    async def run(self) -> None:
        """Looks at what `begin` names, until it is cancelled."""
        async with asyncio.TaskGroup() as group:
            for _ in range(_AT_ONCE):
                group.create_task(self._work())

    async def begin(self, wallet: str, *, stranger_at: str | None = None) -> None:
        """Has a wallet looked at, unless that is known, under way, or too much is asked."""
        if self._remembered(wallet) is not None or wallet in self._under_way:
            return
        if self._waiting.full():
            return
        if stranger_at is not None:
            try:
                await self._strangers.check(stranger_at)
            except RateLimited:
                return
            if wallet in self._under_way:  # the limiter took its time
                return
        with suppress(asyncio.QueueFull):
            self._waiting.put_nowait(wallet)
            self._under_way[wallet] = asyncio.Event()

    async def known(self, wallet: str) -> Held:
        """Returns what the wallet holds; waits for a look under way, for a few milliseconds."""
        looked = self._under_way.get(wallet)
        if looked is not None:
            with suppress(TimeoutError):
                await asyncio.wait_for(looked.wait(), _WAIT_SECONDS)
        return self._remembered(wallet) or NOTHING_KNOWN

    def forget(self, wallet: str) -> None:
        """Forgets what is known of a wallet: a chain has just shown something else."""
        self._known.pop(wallet, None)

    def _remembered(self, wallet: str) -> Held | None:
        found = self._known.get(wallet)
        if found is None or self._clock.monotonic_seconds() - found[0] > _FRESH_SECONDS:
            return None
        return found[1]

    async def _work(self) -> None:
        while True:
            wallet = await self._waiting.get()
            try:
                self._remember(wallet, await self._look(wallet))
            finally:
                self._under_way.pop(wallet).set()

    def _remember(self, wallet: str, held: Held) -> None:
        self._known[wallet] = (self._clock.monotonic_seconds(), held)
        self._known.move_to_end(wallet)
        if len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)

    async def _look(self, wallet: str) -> Held:
        chains = await asyncio.gather(*(self._on(name, wallet) for name in self._clients))
        return {key: amount for held in chains for key, amount in held.items()}

    async def _on(self, name: str, wallet: str) -> Held:
        client = self._clients[name]
        try:
            found = await token_balances(client, client.chain, wallet)
        except ChainUnavailable:
            return NOTHING_KNOWN
        return {(name, token.name): amount for token, amount in found}
