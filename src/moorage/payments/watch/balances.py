"""Compares what our addresses hold with what the books say that arrived and went.

A search finds nothing that every node keeps back; what an address holds shows it all the same.
"""

from collections.abc import Collection, Sequence

import structlog

from moorage.chains.chain import Token
from moorage.chains.erc20 import balance_of_calldata, decode_uint256
from moorage.chains.heads import read_heads
from moorage.chains.rpc import Call, RpcClient, RpcError
from moorage.chains.transfer_search import find_transfers
from moorage.errors import ChainUnavailable
from moorage.records.payments import Search
from moorage.storage.database import Database
from moorage.storage.money import payments
from moorage.storage.money.chains import balance_marks, cursors
from moorage.storage.money.chains.balance_marks import BalanceMark

log = structlog.get_logger()


class BalanceCheck:
    """Checks the balances of `recipients` on one chain, token by token.

    What they held together at the last check, and what the books say of the blocks since, must be
    what they hold: payments came, and whatever left is seen by its logs at any node.
    """

    def __init__(self, *, db: Database, client: RpcClient, recipients: Collection[str]) -> None:
        self._db = db
        self._client = client
        self._chain = client.chain
        self._recipients = frozenset(recipients)
        self._wrong: dict[str, str] = {}  # what is wrong, by the token's name

    @property
    def duty(self) -> str:
        """The name of the check's lease: only one gateway checks."""
        return f"balances of {self._chain.name}"

    async def require_agreement(self) -> None:
        """Raises ChainUnavailable if the last check found that a balance is not as it must be."""
        if self._wrong:
            raise ChainUnavailable(" ".join(self._wrong.values()))

    async def check(self) -> None:
        """Compares up to the newest block that is safe and was searched.

        Raises ChainUnavailable if no node tells the balances, DatabaseUnavailable.
        """
        chain_id = self._chain.chain_id
        searched = await cursors.one(self._db, chain_id=chain_id, search=Search.SAFE)
        if searched is None:
            return
        views = await self._client.every(read_heads)
        heads = [view.safe for view in views if not isinstance(view, ChainUnavailable)]
        if not heads:
            raise self._client.silence(views)
        block = min(*heads, searched.block_number)
        held = await self._held(block)
        for number, token in enumerate(self._chain.tokens):
            said = {balances[number] for balances in held}
            await self._compare(token, said, block)

    async def _held(self, block: int) -> list[Sequence[int]]:
        """Returns what our addresses hold together of each token, as each node says."""
        owners = sorted(self._recipients)
        calls: list[Call] = [
            ("eth_call", [{"to": token.key, "data": balance_of_calldata(owner)}, hex(block)])
            for token in self._chain.tokens
            for owner in owners
        ]

        async def ask(node: RpcClient) -> list[int]:
            answers = await node.batch(calls)
            if refused := next((one for one in answers if isinstance(one, RpcError)), None):
                raise refused
            try:
                balances = [decode_uint256(answer) for answer in answers]
            except ValueError as problem:
                raise node.contradiction(problem) from problem
            count = len(owners)
            return [sum(balances[at : at + count]) for at in range(0, len(balances), count)]

        views = await self._client.every(ask)
        told = [view for view in views if not isinstance(view, ChainUnavailable)]
        if not told:
            raise self._client.silence(views)
        return list(told)

    async def _compare(self, token: Token, said: Collection[int], block: int) -> None:
        chain_id, name = self._chain.chain_id, f"{token.name} on {self._chain.name}"
        mark = await balance_marks.one(self._db, chain_id=chain_id, token_address=token.key)
        if mark is not None and mark.block_number >= block:
            return
        if len(said) > 1:
            self._tell(token, f"The nodes disagree on what pay_to holds of {name}.")
            return
        (now,) = said
        if mark is not None and mark.addresses == self._addresses:
            since = mark.block_number
            arrived = await payments.sum_arrived(
                self._db, chain_id=chain_id, token_address=token.key, after=since, last=block
            )
            more = now - mark.amount - arrived + await self._sent(token, since + 1, block)
            if more:
                units = abs(more)
                self._tell(
                    token,
                    f"pay_to holds {units} atomic units {'more' if more > 0 else 'less'} of {name} "
                    "than the books say: `moorage payments find "
                    f"{since + 1} {block} --chain {self._chain.name}`.",
                )
                return
        self._wrong.pop(token.name, None)
        async with self._db.transaction(durable=False) as tx:
            await balance_marks.put(
                tx,
                BalanceMark(
                    chain_id=chain_id,
                    token_address=token.key,
                    addresses=self._addresses,
                    block_number=block,
                    amount_atomic=str(now),
                ),
            )

    @property
    def _addresses(self) -> str:
        return " ".join(sorted(self._recipients))

    async def _sent(self, token: Token, first: int, last: int) -> int:
        """Returns what our addresses sent to others in these blocks, as any node shows it."""
        sent: dict[tuple[str, int], int] = {}
        try:
            for node in self._client.nodes:
                for found, transfer in await find_transfers(
                    node, senders=self._recipients, first=first, last=last
                ):
                    own = transfer.recipient in self._recipients
                    if transfer.token_address == token.key and not own:
                        sent[found.tx_hash, transfer.log_index] = transfer.value
        except ValueError as problem:
            raise self._client.contradiction(problem) from problem
        return sum(sent.values())

    def _tell(self, token: Token, problem: str) -> None:
        log.error("balance is not what the books say", problem=problem)
        self._wrong[token.name] = problem
