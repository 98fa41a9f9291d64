"""Table 1.3 of the contract, as far as the chain decides it, on a real node."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec
import pytest
from aiohttp import web
from eth_account import Account

from moorage.auth.rate_limit import MemoryRateLimiter
from moorage.chains.balances import token_balances
from moorage.chains.chain import KNOWN_CHAINS, Chain, Token
from moorage.chains.local.devchain import DevWallet, artifact
from moorage.chains.rpc import RpcClient, RpcError
from moorage.clock import SystemClock
from moorage.errors import ChainUnavailable, PaymentHeld, PaymentNotFound, PaymentPending
from moorage.money import MicroUsd
from moorage.payments.taking.verification import Lookups, Verifier
from support.chains.chain_fixture import LocalChains
from support.chains.paying import (
    calldata,
    mine,
    rpc,
    send_transaction,
    send_transfer,
    sign_authorization,
    token_balance,
)
from support.chains.rpc_proxy import RpcProxy

USDC, USDT = KNOWN_CHAINS["arbitrum"].tokens
TRANSFER_TOPIC = "0xddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef"
UNKNOWN_HASH = "0x" + "ab" * 32


class Payments:
    """A verifier and the chains it reads, with what a test needs to pay and ask."""

    def __init__(self, chains: LocalChains, payer: DevWallet, pay_to: str) -> None:
        self.chains = chains
        self.payer = payer
        self.pay_to = pay_to
        self.url = chains.arbitrum.rpc_urls[0]
        self.clients: list[RpcClient] = []

    def client(self, *urls: str, chain: Chain | None = None, **options: Any) -> RpcClient:
        chain = chain or self.chains.arbitrum
        options = {"timeout_seconds": 30.0} | options  # a busy machine's node may take its time
        client = RpcClient(msgspec.structs.replace(chain, rpc_urls=urls), **options)
        self.clients.append(client)
        return client

    def verifier(
        self, *urls: str, wait: float = 0.0, client: RpcClient | None = None
    ) -> Callable[..., Any]:
        clients = {
            "arbitrum": client or self.client(*(urls or (self.url,))),
            "base": self.client(*self.chains.base.rpc_urls, chain=self.chains.base),
        }
        verifier = Verifier(
            pay_to=self.pay_to,
            clients=clients,
            clock=SystemClock(),
            safe_above=MicroUsd(2_000_000),
            pending_wait_seconds=wait,
        )

        def transfers(
            tx_hash: str, token: Token = USDC, chain: Chain | None = None, **given: Any
        ) -> Any:
            return verifier.transfers(
                chain=chain or self.chains.arbitrum, token=token, tx_hash=tx_hash, **given
            )

        return transfers

    async def pay(self, amount: int = 500_000, token: Token = USDC, *, mined: bool = True) -> str:
        return await send_transfer(
            self.url, self.payer.private_key, token.address, self.pay_to, amount, mined=mined
        )


@pytest.fixture
async def payments(
    local_chains: LocalChains, payer: DevWallet, pay_to: str
) -> AsyncIterator[Payments]:
    made = Payments(local_chains, payer, pay_to)
    yield made
    for client in made.clients:
        await client.close()


@pytest.fixture
async def paused(payments: Payments) -> AsyncIterator[None]:
    """Blocks come only when a test mines them."""
    await rpc(payments.url, "evm_setAutomine", False)
    yield
    await rpc(payments.url, "evm_setAutomine", True)
    await mine(payments.url)


# What pays.


async def test_transfer_is_what_the_log_says(payments: Payments) -> None:
    tx_hash = await payments.pay(500_000)
    receipt = await rpc(payments.url, "eth_getTransactionReceipt", tx_hash)

    (transfer,) = await payments.verifier()(tx_hash)

    assert transfer.chain_id == 42161
    assert transfer.tx_hash == tx_hash
    assert transfer.log_index == int(receipt["logs"][0]["logIndex"], 16)
    assert transfer.token == "usdc"
    assert transfer.token_address == "0xaf88d065e77c8cc2239327c5edb3a432268e5831"
    assert transfer.payer == payments.payer.address.lower()
    assert transfer.amount == 500_000
    assert transfer.decimals == 6
    assert transfer.block_number == int(receipt["blockNumber"], 16)
    assert transfer.block_hash == receipt["blockHash"]


async def test_mined_payment_takes_one_round_trip(
    payments: Payments, arbitrum_proxy: RpcProxy
) -> None:
    tx_hash = await payments.pay()
    await payments.verifier(arbitrum_proxy.url)(tx_hash)
    assert arbitrum_proxy.requests == 1


async def test_token_that_returns_nothing_pays(payments: Payments) -> None:
    tx_hash = await payments.pay(7, USDT)
    (transfer,) = await payments.verifier()(tx_hash, USDT)
    assert (transfer.token, transfer.amount) == ("usdt", 7)


async def test_every_spelling_of_a_hash_is_the_same_transaction(payments: Payments) -> None:
    tx_hash = await payments.pay()
    transfers = payments.verifier()
    found = await transfers(tx_hash)
    for spelling in (tx_hash.upper().replace("0X", "0x"), tx_hash[2:], "0X" + tx_hash[2:].upper()):
        assert await transfers(spelling) == found
    for malformed in ("", "0x", tx_hash[:-1], tx_hash + "0", "0x" + "g" * 64, " " + tx_hash):
        with pytest.raises(ValueError, match="transaction hash"):
            await transfers(malformed)


async def test_other_wallets_payment_names_its_payer(payments: Payments) -> None:
    other = payments.chains.wallets.wallets[1]
    tx_hash = await send_transfer(
        payments.url, other.private_key, USDC.address, payments.pay_to, 42
    )
    (transfer,) = await payments.verifier()(tx_hash)
    assert transfer.payer == other.address.lower()


async def test_fee_token_pays_what_arrived(payments: Payments) -> None:
    key = payments.payer.private_key
    set_fee = "setFeeBasisPoints(uint256)"
    await send_transaction(payments.url, key, to=USDC.address, data=calldata(set_fee, 100))
    try:
        tx_hash = await payments.pay(500_000)
    finally:
        await send_transaction(payments.url, key, to=USDC.address, data=calldata(set_fee, 0))

    transfers = await payments.verifier()(tx_hash)

    assert [transfer.amount for transfer in transfers] == [495_000]
    assert await token_balance(payments.url, USDC.address, payments.pay_to) == 495_000


async def disperse(payments: Payments, token: str, to: list[str], values: list[int]) -> str:
    disperser = "0x" + secrets.token_hex(20)
    code = artifact().contracts["DevDisperser"].runtime
    await rpc(payments.url, "anvil_setCode", disperser, code)
    key = payments.payer.private_key
    approval = calldata("approve(address,uint256)", disperser, sum(values))
    await send_transaction(payments.url, key, to=token, data=approval)
    words: list[int | str] = [token, 96, 128 + 32 * len(to), len(to), *to, len(values), *values]
    data = calldata("disperse(address,address[],uint256[])", *words)
    return await send_transaction(payments.url, key, to=disperser, data=data)


async def test_wrapper_contract_pays_for_the_wallet_the_money_left(payments: Payments) -> None:
    """Several transfers in one transaction, to the gateway and to others, in log order."""
    stranger = "0x" + "11" * 20
    recipients = [payments.pay_to, stranger, payments.pay_to, payments.pay_to]
    tx_hash = await disperse(payments, USDC.address, recipients, [100, 200, 0, 300])
    receipt = await rpc(payments.url, "eth_getTransactionReceipt", tx_hash)
    assert receipt["to"] != USDC.key

    transfers = await payments.verifier()(tx_hash)

    assert [transfer.amount for transfer in transfers] == [100, 300]  # nothing isn't money
    assert {transfer.payer for transfer in transfers} == {payments.payer.address.lower()}
    indices = [
        int(log["logIndex"], 16) for log in receipt["logs"] if log["topics"][0] == TRANSFER_TOPIC
    ]
    assert [transfer.log_index for transfer in transfers] == [indices[0], indices[3]]


async def test_contract_wallet_pays_as_itself(payments: Payments) -> None:
    """The log's `from` counts; the transaction was sent by the wallet's owner."""
    wallet = "0x" + secrets.token_hex(20)
    owner = payments.payer.address
    code = artifact().contracts["DevWallet"].runtime
    await rpc(payments.url, "anvil_setCode", wallet, code)
    await rpc(payments.url, "anvil_setStorageAt", wallet, "0x0", "0x" + owner[2:].rjust(64, "0"))
    key = payments.payer.private_key
    await send_transfer(payments.url, key, USDC.address, wallet, 5_000)
    inner = calldata("transfer(address,uint256)", payments.pay_to, 5_000)
    words: list[int | str] = [
        USDC.address,
        0,
        96,
        68,
        *(inner[2:].ljust(192, "0")[at : at + 64] for at in (0, 64, 128)),
    ]
    data = calldata("execute(address,uint256,bytes)", *words)
    tx_hash = await send_transaction(payments.url, key, to=wallet, data=data)

    (transfer,) = await payments.verifier()(tx_hash)

    assert (transfer.payer, transfer.amount) == (wallet, 5_000)


@pytest.mark.parametrize("overload", ["calldata", "calldata_bytes"])
async def test_authorized_transfer_pays_for_the_authorizer(
    payments: Payments, overload: str
) -> None:
    """EIP-3009, sent by another wallet; what it tells of a used one pays nothing."""
    relayer = payments.chains.wallets.relayer
    signed = sign_authorization(
        payments.payer.private_key,
        chain_id=42161,
        token_address=USDC.address,
        to=payments.pay_to,
        value=60_000,
    )
    sent = [
        await send_transaction(
            payments.url, relayer.private_key, to=USDC.address, data=getattr(signed, overload)
        )
        for _ in range(2)
    ]
    (transfer,) = await payments.verifier()(sent[0])
    assert (transfer.payer, transfer.amount) == (payments.payer.address.lower(), 60_000)
    with pytest.raises(PaymentNotFound, match="reverted"):
        await payments.verifier()(sent[1])


# What doesn't.


async def refused(payments: Payments, tx_hash: str, token: Token = USDC) -> PaymentNotFound:
    with pytest.raises(PaymentNotFound) as refusal:
        await payments.verifier()(tx_hash, token)
    return refusal.value


async def test_reverted_transaction_pays_nothing(payments: Payments) -> None:
    tx_hash = await payments.pay(10**18)  # more than the wallet has
    refusal = await refused(payments, tx_hash)
    assert "reverted" in refusal.message
    assert refusal.looked_for == {
        "chain": "arbitrum",
        "token": "usdc",
        "token_address": "0xaf88d065e77c8cC2239327C5EDb3A432268e5831",
        "pay_to": payments.pay_to,
        "tx_hash": tx_hash,
    }


async def test_other_accepted_token_than_the_one_named_pays(payments: Payments) -> None:
    (transfer,) = await payments.verifier()(await payments.pay(9, USDT), USDC)
    assert (transfer.token, transfer.amount) == ("usdt", 9)


async def test_other_recipient_is_not_found_but_named(payments: Payments) -> None:
    stranger = "0x" + "22" * 20
    tx_hash = await send_transfer(
        payments.url, payments.payer.private_key, USDC.address, stranger, 9
    )
    refusal = await refused(payments, tx_hash)
    assert stranger in refusal.message


async def test_fake_token_pays_nothing(payments: Payments) -> None:
    """The very code of the token, at another address."""
    fake = "0x" + secrets.token_hex(20)
    code = await rpc(payments.url, "eth_getCode", USDC.address, "latest")
    await rpc(payments.url, "anvil_setCode", fake, code)
    await rpc(payments.url, "anvil_dealERC20", payments.payer.address, fake, hex(10**9))
    tx_hash = await send_transfer(
        payments.url, payments.payer.private_key, fake, payments.pay_to, 500_000
    )
    assert await token_balance(payments.url, fake, payments.pay_to) == 500_000
    refusal = await refused(payments, tx_hash)
    assert "unsupported token" in refusal.message


async def test_transfer_too_large_for_the_books_is_told_once_and_not_to_be_tried_again(
    payments: Payments,
) -> None:
    """Of a token whose contract makes as many as it likes."""
    fake = "0x" + secrets.token_hex(20)
    code = await rpc(payments.url, "eth_getCode", USDC.address, "latest")
    await rpc(payments.url, "anvil_setCode", fake, code)
    await rpc(payments.url, "anvil_dealERC20", payments.payer.address, fake, hex(10**16))
    taken = msgspec.structs.replace(
        payments.chains.arbitrum,
        tokens=(*payments.chains.arbitrum.tokens, Token("fake", "FAKE", fake, 6)),
    )
    transfers = payments.verifier(client=payments.client(payments.url, chain=taken))
    for amount in (10**15 + 1, 2 * 10**15):
        tx_hash = await send_transfer(
            payments.url, payments.payer.private_key, fake, payments.pay_to, amount
        )
        with pytest.raises(PaymentHeld, match="more than a billion tokens"):
            await transfers(tx_hash, token=taken.tokens[-1], chain=taken)


async def test_zero_transfer_pays_nothing(payments: Payments) -> None:
    """Anybody may move nothing out of anybody's wallet: EIP-20 wants no allowance for zero."""
    await refused(payments, await payments.pay(0))


async def test_plain_ether_pays_nothing(payments: Payments) -> None:
    tx_hash = await send_transaction(
        payments.url, payments.payer.private_key, to=payments.pay_to, value=10**15
    )
    await refused(payments, tx_hash)


async def test_gateway_does_not_pay_itself(payments: Payments) -> None:
    account = Account.create()
    payments.pay_to = account.address
    await rpc(payments.url, "anvil_setBalance", account.address, hex(10**18))
    await payments.pay(1_000)
    tx_hash = await send_transfer(
        payments.url, account.key.hex(), USDC.address, account.address, 1_000
    )
    await refused(payments, tx_hash)


async def test_payment_on_another_chain_is_unknown_here(payments: Payments) -> None:
    tx_hash = await payments.pay()
    with pytest.raises(PaymentPending, match="Do not pay again"):
        await payments.verifier()(tx_hash, KNOWN_CHAINS["base"].tokens[0], payments.chains.base)


# What isn't there yet.


async def test_unknown_transaction_is_pending_never_refused(payments: Payments) -> None:
    with pytest.raises(PaymentPending, match="not known") as pending:
        await payments.verifier()(UNKNOWN_HASH)
    assert pending.value.retry_after_seconds > 0


@pytest.mark.usefixtures("paused")
async def test_unmined_transaction_is_pending(payments: Payments) -> None:
    tx_hash = await payments.pay(mined=False)
    with pytest.raises(PaymentPending, match="not mined"):
        await payments.verifier()(tx_hash)


@pytest.mark.usefixtures("paused")
async def test_payment_mined_while_waiting_pays_in_the_same_request(
    payments: Payments, arbitrum_proxy: RpcProxy
) -> None:
    tx_hash = await payments.pay(mined=False)
    request = asyncio.create_task(payments.verifier(arbitrum_proxy.url, wait=30.0)(tx_hash))
    await arbitrum_proxy.asked.wait()
    assert not request.done()
    await mine(payments.url)
    (transfer,) = await request
    assert transfer.amount == 500_000


async def test_payment_counts_at_the_configured_depth(payments: Payments) -> None:
    deep = msgspec.structs.replace(payments.chains.arbitrum, confirmations=3)
    tx_hash = await payments.pay()
    for depth in (1, 2):
        with pytest.raises(PaymentPending, match=f"{depth} of 3"):
            await payments.verifier()(tx_hash, USDC, deep)
        await mine(payments.url)
    (transfer,) = await payments.verifier()(tx_hash, USDC, deep)
    assert transfer.amount == 500_000


async def test_payment_that_brings_much_counts_once_it_is_safe(payments: Payments) -> None:
    """The local node calls a block safe that is one deep; more than $2 is much here."""
    much, little = await payments.pay(2_000_001), await payments.pay(2_000_000)
    (transfer,) = await payments.verifier()(much)
    assert transfer.amount == 2_000_001
    (transfer,) = await payments.verifier()(little)
    assert transfer.amount == 2_000_000
    much = await payments.pay(2_000_001)
    with pytest.raises(PaymentPending, match="once its block is safe"):
        await payments.verifier()(much)


async def test_safe_block_of_another_branch_makes_nothing_safe(
    payments: Payments, arbitrum_proxy: RpcProxy
) -> None:
    much = await payments.pay(2_000_001)
    number = (await rpc(payments.url, "eth_getTransactionReceipt", much))["blockNumber"]
    await mine(payments.url)

    def other_branch(method: str, result: Any) -> Any:
        replaced = method == "eth_getBlockByNumber" and result["number"] == number
        return {**result, "hash": UNKNOWN_HASH} if replaced else result

    arbitrum_proxy.alter = other_branch
    with pytest.raises(PaymentPending):
        await payments.verifier(arbitrum_proxy.url)(much)


async def test_reorganised_payment_is_gone(payments: Payments) -> None:
    tx_hash = await payments.pay()
    transfers = payments.verifier()
    assert await transfers(tx_hash)
    await rpc(payments.url, "anvil_reorg", 1, [])
    with pytest.raises(PaymentPending):
        await transfers(tx_hash)


# What can't be believed.


def one_behind(method: str, result: Any) -> Any:
    return hex(int(result, 16) - 1) if method == "eth_blockNumber" else result


async def test_head_that_lags_for_a_moment_is_waited_for(
    payments: Payments, arbitrum_proxy: RpcProxy
) -> None:
    tx_hash = await payments.pay()
    arbitrum_proxy.alter = one_behind
    request = asyncio.create_task(payments.verifier(arbitrum_proxy.url, wait=30.0)(tx_hash))
    await arbitrum_proxy.asked.wait()
    await mine(payments.url)
    (transfer,) = await request
    assert transfer.amount == 500_000


async def test_block_beyond_the_head_is_a_contradiction(
    payments: Payments, arbitrum_proxy: RpcProxy
) -> None:
    tx_hash = await payments.pay()
    arbitrum_proxy.alter = one_behind
    with pytest.raises(ChainUnavailable, match="beyond the newest"):
        await payments.verifier(arbitrum_proxy.url)(tx_hash)


def in_receipt(**fields: Any) -> Callable[[str, Any], Any]:
    return lambda method, result: (
        {**result, **fields} if method == "eth_getTransactionReceipt" else result
    )


def in_log(**fields: Any) -> Callable[[str, Any], Any]:
    def alter(method: str, result: Any) -> Any:
        if method != "eth_getTransactionReceipt":
            return result
        return {**result, "logs": [{**log, **fields} for log in result["logs"]]}

    return alter


def in_transaction(**fields: Any) -> Callable[[str, Any], Any]:
    return lambda method, result: (
        {**result, **fields} if method == "eth_getTransactionByHash" else result
    )


def doubled_logs(method: str, result: Any) -> Any:
    if method != "eth_getTransactionReceipt":
        return result
    return {**result, "logs": result["logs"] * 2}


def instead_of(wanted: str, answer: Any) -> Callable[[str, Any], Any]:
    return lambda method, result: answer if method == wanted else result


LIES = {
    "another transaction's receipt": in_receipt(transactionHash=UNKNOWN_HASH),
    "another transaction's log": in_log(transactionHash=UNKNOWN_HASH),
    "another block's log": in_log(blockHash=UNKNOWN_HASH),
    "another block number's log": in_log(blockNumber="0x0"),
    "a removed log": in_log(removed=True),
    "one log twice": doubled_logs,
    "a reverted transaction with logs": in_receipt(status="0x0"),
    "a third status": in_receipt(status="0x2"),
    "no status": in_receipt(status=None),
    "a status in decimal": in_receipt(status="1"),
    "a negative block number": in_receipt(blockNumber="-0x1"),
    "a block number that isn't hex": in_receipt(blockNumber=7),
    "a value that isn't hex": in_log(data="0x" + "zz" * 32),
    "a short value": in_log(data="0x01"),
    "a long value": in_log(data="0x" + "00" * 33),
    "no value": in_log(data="0x"),
    "more money than there is": in_log(data="0x" + "ff" * 32),
    "a negative log index": in_log(logIndex="-0x1"),
    "an NFT's topics": in_log(topics=[TRANSFER_TOPIC, *["0x" + "00" * 32] * 3]),
    "too few topics": in_log(topics=[TRANSFER_TOPIC]),
    "a payer of 32 bytes": in_log(topics=[TRANSFER_TOPIC, *["0x" + "ff" * 32] * 2]),
    "topics that aren't hex": in_log(topics=["Transfer"]),
    "logs that are no list": in_receipt(logs={}),
    "a receipt that is a number": instead_of("eth_getTransactionReceipt", 1),
    "another transaction": in_transaction(hash=UNKNOWN_HASH),
    "a transaction in another block": in_transaction(blockHash=UNKNOWN_HASH),
    "a transaction that is a list": instead_of("eth_getTransactionByHash", []),
    "a head that is nothing": instead_of("eth_blockNumber", None),
}


@pytest.mark.parametrize("lie", LIES)
async def test_node_that_contradicts_itself_is_not_believed(
    payments: Payments, arbitrum_proxy: RpcProxy, lie: str
) -> None:
    tx_hash = await payments.pay()
    transfers = payments.verifier(arbitrum_proxy.url)
    arbitrum_proxy.alter = LIES[lie]
    with pytest.raises(ChainUnavailable):
        await transfers(tx_hash)
    arbitrum_proxy.alter = lambda _method, result: result
    assert len(await transfers(tx_hash)) == 1  # the same hash works once the node is sane


async def test_liar_is_not_asked_first_again(payments: Payments, arbitrum_proxy: RpcProxy) -> None:
    tx_hash = await payments.pay()
    arbitrum_proxy.alter = LIES["a removed log"]
    transfers = payments.verifier(arbitrum_proxy.url, payments.url)
    with pytest.raises(ChainUnavailable):
        await transfers(tx_hash)
    assert len(await transfers(tx_hash)) == 1


async def test_refused_call_is_no_answer(payments: Payments, arbitrum_proxy: RpcProxy) -> None:
    async def refuse(request: web.Request) -> web.Response:
        error = {"code": -32000, "message": "state is pruned"}
        calls = await request.json()
        return web.json_response(
            [
                {"jsonrpc": "2.0", "id": call["id"], "result": "0xa4b1"}
                if call["method"] == "eth_chainId"
                else {"jsonrpc": "2.0", "id": call["id"], "error": error}
                for call in calls
            ]
        )

    arbitrum_proxy.respond = refuse
    with pytest.raises(RpcError) as refusal:
        await payments.verifier(arbitrum_proxy.url)(UNKNOWN_HASH)
    assert isinstance(refusal.value, ChainUnavailable)
    assert (refusal.value.code, refusal.value.detail) == (-32000, "state is pruned")


# Balances.


async def test_balances_of_all_tokens_come_in_one_round_trip(
    payments: Payments, arbitrum_proxy: RpcProxy
) -> None:
    await payments.pay(123)
    await payments.pay(45, USDT)
    client = payments.client(arbitrum_proxy.url)
    assert await token_balances(client, client.chain, payments.pay_to) == [(USDC, 123), (USDT, 45)]
    assert arbitrum_proxy.requests == 1


@pytest.mark.parametrize("answer", ["0x", None, "0x7b", "0x" + "00" * 64, 5])
async def test_balance_that_is_not_said_is_no_zero(
    payments: Payments, arbitrum_proxy: RpcProxy, answer: Any
) -> None:
    arbitrum_proxy.alter = instead_of("eth_call", answer)
    client = payments.client(arbitrum_proxy.url)
    with pytest.raises(ChainUnavailable, match="balance of usdc"):
        await token_balances(client, client.chain, payments.pay_to)


async def test_balance_of_a_contract_that_is_not_there_is_no_zero(payments: Payments) -> None:
    missing = Token(name="usdc", symbol="USDC", address="0x" + "33" * 20, decimals=6)
    chain = msgspec.structs.replace(payments.chains.arbitrum, tokens=(missing,))
    with pytest.raises(ChainUnavailable):
        await token_balances(payments.client(payments.url), chain, payments.pay_to)


# What strangers show.


async def shown(
    verify: Callable[..., Any], lookups: Lookups, tx_hash: str, stranger_at: str = "here"
) -> Any:
    with lookups.of(stranger_at, tx_hash) as lookup:
        return await verify(tx_hash, lookup=lookup)


async def test_made_up_hashes_ask_the_node_so_often_and_none_is_answered_but_pending(
    payments: Payments, arbitrum_proxy: RpcProxy
) -> None:
    paid = await payments.pay()
    verify = payments.verifier(arbitrum_proxy.url, wait=1.0)
    lookups = Lookups(looks=MemoryRateLimiter(clock=SystemClock(), limit=40), clock=SystemClock())
    made_up = [f"0x{secrets.token_hex(32)}" for _ in range(100)]

    answers = await asyncio.gather(
        *(shown(verify, lookups, tx_hash) for tx_hash in made_up * 3), return_exceptions=True
    )

    assert all(isinstance(answer, PaymentPending) for answer in answers)
    assert arbitrum_proxy.requests <= 40
    with pytest.raises(PaymentPending):  # it may be found without asking, or asked for again
        await shown(verify, lookups, paid)
    assert len(await shown(verify, lookups, paid, "elsewhere")) == 1
    assert len(await verify(paid)) == 1


async def test_transaction_that_a_stranger_shows_again_is_looked_for_once_and_found(
    payments: Payments, arbitrum_proxy: RpcProxy, paused: None
) -> None:
    tx_hash = await payments.pay(mined=False)
    verify = payments.verifier(arbitrum_proxy.url, wait=1.0)
    lookups = Lookups(looks=MemoryRateLimiter(clock=SystemClock()), clock=SystemClock())
    for looks in (range(2, 8), range(1, 2)):
        before = arbitrum_proxy.requests
        with pytest.raises(PaymentPending):
            await shown(verify, lookups, tx_hash)
        assert arbitrum_proxy.requests - before in looks
    await mine(payments.url)
    assert len(await shown(verify, lookups, tx_hash)) == 1
