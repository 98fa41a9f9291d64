"""Two local chains for a whole test session, in place of arbitrum and base."""

import asyncio
import secrets
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from moorage.chains.chain import KNOWN_CHAINS, Chain
from moorage.chains.local.devchain import DevChain, DevWallet, DevWallets, dev_wallets, find_anvil
from support.chains.rpc_proxy import RpcProxy

REPOSITORY = Path(__file__).parents[3]


@dataclass(frozen=True)
class LocalChains:
    """The running chains, and whose money they hold. Tests share them: compare differences."""

    arbitrum: Chain
    base: Chain
    wallets: DevWallets


@pytest.fixture(scope="session")
def anvil_binary() -> Path:
    """The node of local chains, as `npm ci` in the repository installs it."""
    return find_anvil([REPOSITORY / "node_modules"])


@pytest.fixture(scope="session")
def local_chains(
    anvil_binary: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LocalChains]:
    """Both chains, started once; gas and 1,000 of each token in each wallet."""
    with running_chains(tmp_path_factory.mktemp("chains"), anvil_binary) as started:
        yield started


@contextmanager
def running_chains(directory: Path, anvil_binary: Path) -> Iterator[LocalChains]:
    """Both chains, for whoever has no fixtures."""
    wallets = dev_wallets(directory / "wallets.json")
    arbitrum, base = (
        DevChain(
            KNOWN_CHAINS[name], directory=directory / name, anvil=anvil_binary, wallets=wallets
        )
        for name in ("arbitrum", "base")
    )
    try:
        started = LocalChains(asyncio.run(arbitrum.start()), asyncio.run(base.start()), wallets)
        with _mining(arbitrum, base):
            yield started
    finally:
        asyncio.run(arbitrum.stop())
        asyncio.run(base.stop())


@contextmanager
def _mining(*chains: DevChain) -> Iterator[None]:
    """As beside a gateway's own local chains, but in a thread: each test has a loop of its own."""
    stop = threading.Event()

    async def mine() -> None:
        mining = [asyncio.create_task(chain.keep_mining()) for chain in chains]
        await asyncio.to_thread(stop.wait)
        for task in mining:
            task.cancel()
        await asyncio.gather(*mining, return_exceptions=True)

    thread = threading.Thread(target=asyncio.run, args=(mine(),))
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


@pytest.fixture
def payer(local_chains: LocalChains) -> DevWallet:
    """A wallet with gas and tokens on both chains."""
    return local_chains.wallets.wallets[0]


@pytest.fixture
def pay_to() -> str:
    """An address that no test paid before."""
    return "0x" + secrets.token_hex(20)


@pytest.fixture
async def arbitrum_proxy(local_chains: LocalChains) -> AsyncIterator[RpcProxy]:
    """Stands before arbitrum's node; passes everything on until a test makes it lie."""
    async with RpcProxy(local_chains.arbitrum.rpc_urls[0]) as proxy:
        yield proxy
