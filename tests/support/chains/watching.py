"""A watcher and a second look over a real node and a real database, and what tests do to them."""

import secrets
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

import msgspec

from moorage.chains.chain import Chain, Token
from moorage.chains.local.devchain import DevWallet, artifact
from moorage.chains.rpc import RpcClient
from moorage.clock import SystemClock
from moorage.ledger.metering import Metering
from moorage.money import MicroUsd
from moorage.payments.watch.finality import FinalityCheck
from moorage.payments.watch.watcher import Watcher
from moorage.records.payments import Payment
from moorage.storage.database import Database
from moorage.storage.money import accounts, payments
from support.chains.chain_fixture import LocalChains
from support.chains.paying import calldata, mine, rpc, send_transaction, send_transfer

SAFE_ABOVE = MicroUsd(2_000_000)
TIMEOUT_SECONDS = 30.0
"""A busy machine's node may take its time."""


@dataclass(eq=False)
class Watched:
    """Payments to an address of its own on one of the local chains."""

    chains: LocalChains
    db: Database
    pay_to: str
    payer: DevWallet
    clients: list[RpcClient] = field(default_factory=list)
    on: str = "arbitrum"

    @property
    def chain(self) -> Chain:
        return self.chains.base if self.on == "base" else self.chains.arbitrum

    @property
    def url(self) -> str:
        return self.chain.rpc_urls[0]

    @property
    def usdc(self) -> Token:
        return self.chain.tokens[0]

    @property
    def usdt(self) -> Token:
        return self.chain.tokens[1]

    def client(self, *urls: str, **changed: Any) -> RpcClient:
        chain = msgspec.structs.replace(self.chain, rpc_urls=urls or (self.url,), **changed)
        client = RpcClient(chain, timeout_seconds=TIMEOUT_SECONDS)
        self.clients.append(client)
        return client

    def watcher(self, *urls: str, former: Collection[str] = (), **options: Any) -> Watcher:
        """`options` named as a field of Chain are the chain's, all others the watcher's."""
        of_chain = {k: options.pop(k) for k in list(options) if k in Chain.__struct_fields__}
        return Watcher(
            db=self.db,
            client=self.client(*urls, **of_chain),
            recipients={self.pay_to.lower(), *former},
            safe_above=SAFE_ABOVE,
            **{"clock": SystemClock(), **options},
        )

    def finality_check(self, *urls: str, former: Collection[str] = ()) -> FinalityCheck:
        clock = SystemClock()
        return FinalityCheck(
            db=self.db,
            client=self.client(*urls),
            recipients={self.pay_to.lower(), *former},
            metering=Metering(db=self.db, clock=clock),
            clock=clock,
        )

    async def pay(self, amount: int = 500_000, *, by: int = 0, token: Token | None = None) -> str:
        """Transfer from the wallet of that number; the same again after a reorganisation is the
        same transaction."""
        return await send_transfer(
            self.url,
            self.chains.wallets.wallets[by].private_key,
            (token or self.usdc).address,
            self.pay_to,
            amount,
        )

    async def disperse(self, values: list[int], *, token: Token | None = None) -> str:
        """One transaction with many transfers."""
        disperser = "0x" + secrets.token_hex(20)
        code = artifact().contracts["DevDisperser"].runtime
        await rpc(self.url, "anvil_setCode", disperser, code)
        key, address = self.payer.private_key, (token or self.usdc).address
        approval = calldata("approve(address,uint256)", disperser, sum(values))
        await send_transaction(self.url, key, to=address, data=approval)
        to = [self.pay_to] * len(values)
        words: list[int | str] = [address, 96, 128 + 32 * len(to), len(to), *to, len(to), *values]
        data = calldata("disperse(address,address[],uint256[])", *words)
        return await send_transaction(self.url, key, to=disperser, data=data, gas=15_000_000)

    async def mine(self, blocks: int = 1) -> None:
        await mine(self.url, blocks)

    async def head(self) -> int:
        return int(await rpc(self.url, "eth_blockNumber"), 16)

    async def raw(self, tx_hash: str) -> str:
        return str(await rpc(self.url, "eth_getRawTransactionByHash", tx_hash))

    async def reorganise(self, depth: int, *blocks: list[str]) -> None:
        """Replace the newest blocks by others that hold these raw transactions, block by block."""
        placed = [[raw, at] for at, block in enumerate(blocks) for raw in block]
        await rpc(self.url, "anvil_reorg", depth, placed)

    async def balance(self, by: int = 0) -> int:
        wallet = self.chains.wallets.wallets[by].address.lower()
        return await accounts.balance(self.db, wallet)

    async def payments(self, tx_hash: str) -> list[Payment]:
        return await payments.of_transaction(self.db, chain_id=self.chain.chain_id, tx_hash=tx_hash)

    async def ledger_sum(self) -> int:
        return await accounts.sum_of_entries(self.db)

    async def close(self) -> None:
        for client in self.clients:
            await client.close()
