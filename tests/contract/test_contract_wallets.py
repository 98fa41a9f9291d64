"""What a real node makes of the question whether a contract wallet signed."""

import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable

import msgspec
import pytest
from eth_account import Account

from moorage.auth.rate_limit import MemoryRateLimiter
from moorage.auth.wallet import ContractWallets, Wallet
from moorage.chains.chain import Chain
from moorage.chains.local.devchain import DevWallet
from moorage.chains.rpc import RpcClient
from moorage.errors import ChainUnavailable, RateLimited
from support.chains.chain_fixture import LocalChains
from support.chains.contract_wallet import (
    Counterfactual,
    deployed_wallet,
    put_code,
    sign_hash,
    wrapped,
)
from support.chains.paying import rpc, send_transaction
from support.chains.rpc_proxy import RpcProxy
from support.gateway.clock import MovableClock

DIGEST = bytes.fromhex("d1" * 32)
STRANGER = "0x" + "77" * 32
IDENTITY = "0x" + "4".rjust(40, "0")
"""The precompile that returns what it is given, and so may seem to say yes."""

TIMEOUT_SECONDS = 60.0
"""Of the node, which shares the machine with others; what is hostile takes well below a second."""

Accept = Callable[[str, bytes], Awaitable[bool]]


@pytest.fixture
def url(local_chains: LocalChains) -> str:
    return local_chains.base.rpc_urls[0]


def asking(client: RpcClient, *, limit: int = 1_000) -> Accept:
    contracts = ContractWallets(
        {"base": client},
        default_chain="base",
        limiter=MemoryRateLimiter(clock=MovableClock(), limit=limit),
    )

    async def accept(wallet: str, signature: bytes) -> bool:
        return await contracts.accept(
            Wallet(wallet.lower()), DIGEST, signature, chain=None, client="192.0.2.1"
        )

    return accept


@pytest.fixture
async def accept(local_chains: LocalChains) -> AsyncIterator[Accept]:
    client = RpcClient(local_chains.base, timeout_seconds=TIMEOUT_SECONDS)
    yield asking(client)
    await client.close()


async def test_deployed_wallet_says_yes_to_its_owner_alone(
    url: str, accept: Accept, payer: DevWallet
) -> None:
    wallet = await deployed_wallet(url, payer.address)

    assert await accept(wallet, sign_hash(payer.private_key, DIGEST))
    assert not await accept(wallet, sign_hash(STRANGER, DIGEST))
    assert not await accept(wallet, sign_hash(payer.private_key, bytes(32)))
    assert not await accept(wallet, b"\x01")


async def test_wallet_that_is_not_deployed_signs_and_stays_undeployed(
    url: str, accept: Accept, payer: DevWallet
) -> None:
    wallet = await Counterfactual.of(url, payer.address)
    good = sign_hash(payer.private_key, DIGEST)

    assert await accept(wallet.address, wallet.wrap(good))
    assert not await accept(wallet.address, wallet.wrap(sign_hash(STRANGER, DIGEST)))
    assert not await accept(wallet.address, good)
    assert await rpc(url, "eth_getCode", wallet.address, "latest") == "0x"


async def test_wallet_may_go_on_wrapping_once_it_is_deployed(
    url: str, accept: Accept, payer: DevWallet
) -> None:
    wallet = await Counterfactual.of(url, payer.address)
    await send_transaction(url, payer.private_key, to=wallet.factory, data=wallet.creation)

    good = sign_hash(payer.private_key, DIGEST)
    assert await accept(wallet.address, good)
    assert await accept(wallet.address, wallet.wrap(good))
    assert not await accept(wallet.address, wallet.wrap(sign_hash(STRANGER, DIGEST)))


async def test_factory_makes_nobody_elses_wallet(
    url: str, accept: Accept, payer: DevWallet
) -> None:
    """Neither another's that is to come, nor one that is there, nor a key's address."""
    mine = await Counterfactual.of(url, Account.from_key(STRANGER).address)
    by_me = mine.wrap(sign_hash(STRANGER, DIGEST))

    assert await accept(mine.address, by_me)
    others = (
        (await Counterfactual.of(url, payer.address)).address,
        await deployed_wallet(url, payer.address),
        payer.address,
    )
    assert [await accept(other, by_me) for other in others] == [False] * 3


async def test_factory_prepares_a_wallet_that_says_no_before(
    url: str, accept: Accept, payer: DevWallet
) -> None:
    """Anybody's call without data sets its slot 0, and then it says yes to all."""
    stores_if_called_without_data = "36600a5760015f550000"  # 10 bytes: what follows is at 0x0a
    says_yes_if_stored = "5b5f54601357" + "5f5ff3" + "5b" + MAGIC_AT_0 + "60205ff3"
    wallet = await put_code(url, "0x" + stores_if_called_without_data + says_yes_if_stored)

    assert not await accept(wallet, b"\x01")
    assert await accept(wallet, wrapped(wallet, b"", b"\x01"))


async def test_account_with_code_may_sign_by_its_own_key(
    url: str, accept: Accept, payer: DevWallet
) -> None:
    """EIP-7702: code that knows nothing of signatures, on an account that has a key."""
    key = "0x" + secrets.token_hex(32)
    account = Account.from_key(key).address
    await rpc(url, "anvil_setCode", account, "0xfe")

    assert await accept(account, wrapped("0x" + "fa" * 20, b"", sign_hash(key, DIGEST)))
    assert not await accept(account, wrapped("0x" + "fa" * 20, b"", sign_hash(STRANGER, DIGEST)))


async def test_malleable_twin_of_a_keys_signature_is_no_signature(accept: Accept) -> None:
    order = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
    good = sign_hash(STRANGER, DIGEST)
    high_s = (order - int.from_bytes(good[32:64])).to_bytes(32)
    twin = good[:32] + high_s + bytes([27 + 28 - good[64]])

    assert not await accept(Account.from_key(STRANGER).address, twin)


@pytest.mark.parametrize("wallet", ["0x" + "0" * 40, IDENTITY, "0x" + "1".rjust(40, "0")])
async def test_what_has_no_code_says_nothing(accept: Accept, wallet: str) -> None:
    for signature in (bytes(65), b"\x1b" * 65, wrapped(IDENTITY, b"\x16\x26\xba\x7e", b"")):
        assert not await accept(wallet, signature)


MAGIC_AT_0 = "7f1626ba7e" + "00" * 28 + "5f52"
HOSTILE = {
    "burns gas for ever": "5b5f56",
    "uses up all gas at once": "fe",
    "asks for memory without end": "5f195f52",
    "reverts with yes": MAGIC_AT_0 + "60205ffd",
    "echoes the question": "365f5f37365ff3",
    "says yes with something behind it": "7f1626ba7e" + "00" * 27 + "01" + "5f5260205ff3",
    "says less than a word": MAGIC_AT_0 + "601f5ff3",
    "returns 200 kB of zeros": "62030d405ff3",
    "calls itself": "5f5f365f5f305af1",
    "writes": "60015f55" + MAGIC_AT_0 + "60205ff3",
}


@pytest.mark.parametrize("runtime", HOSTILE.values(), ids=list(HOSTILE))
async def test_hostile_wallet_is_a_no_within_its_share_of_gas(
    url: str, accept: Accept, runtime: str
) -> None:
    """A node's error would be a chain that can't be read."""
    wallet = await put_code(url, "0x" + runtime)
    started = time.monotonic()

    assert not await accept(wallet, b"\x01")
    assert not await accept(wallet, wrapped(wallet, b"", b"\x01"))

    assert time.monotonic() - started < TIMEOUT_SECONDS / 2


async def test_factory_that_burns_gas_takes_no_wallets_share(
    url: str, accept: Accept, payer: DevWallet
) -> None:
    bomb = await put_code(url, "0x5b5f56")
    key = "0x" + secrets.token_hex(32)
    account = Account.from_key(key).address

    assert await accept(account, wrapped(bomb, b"", sign_hash(key, DIGEST)))


async def test_yes_in_200_kilobytes_is_a_yes(url: str, accept: Accept) -> None:
    """No more than its first word is looked at."""
    wallet = await put_code(url, "0x" + MAGIC_AT_0 + "62030d405ff3")

    assert await accept(wallet, b"\x01")


async def test_longest_signature_fits(url: str, accept: Accept, payer: DevWallet) -> None:
    yes = await put_code(url, "0x" + MAGIC_AT_0 + "60205ff3")

    assert await accept(yes, b"\xff" * 8192)


async def test_node_is_asked_once_and_only_within_the_limit(
    local_chains: LocalChains, url: str, payer: DevWallet
) -> None:
    wallet = await deployed_wallet(url, payer.address)
    async with RpcProxy(url) as proxy:
        client = RpcClient(_served_at(local_chains, proxy.url))
        limited = asking(client, limit=2)
        for _ in range(2):
            assert not await limited(wallet, b"\x01")
        assert proxy.requests == 2
        with pytest.raises(RateLimited):
            await limited(wallet, b"\x01")
        assert proxy.requests == 2
        await client.close()


@pytest.mark.parametrize("answer", ["0x", "0x1", "0x" + "f" * 64])
async def test_node_that_answers_nonsense_is_unavailable(
    local_chains: LocalChains, url: str, answer: str
) -> None:
    async with RpcProxy(url) as proxy:
        proxy.alter = lambda method, result: answer if method == "eth_call" else result
        client = RpcClient(_served_at(local_chains, proxy.url))
        with pytest.raises(ChainUnavailable):
            await asking(client)("0x" + "0a" * 20, b"\x01")
        await client.close()


def _served_at(local_chains: LocalChains, rpc_url: str) -> Chain:
    return msgspec.structs.replace(local_chains.base, rpc_urls=(rpc_url,))
