"""The audit beside a real chain, and a configuration as `moorage operator audit` loads it."""

import asyncio
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiohttp import web

from moorage.chains.local.devchain import DevWallet
from moorage.chains.rpc import RpcClient
from moorage.cli.main import run
from moorage.clock import SystemClock
from moorage.ledger.ledger import Transfer
from moorage.money import MicroUsd
from moorage.operate.audit.report import Report, run_audit
from moorage.payments.taking.verification import Verifier
from moorage.payments.watch.watcher import Watcher
from moorage.settings import load_settings
from moorage.storage.database import Database
from support.books.busy_books import keep_busy
from support.books.records_fixture import CAROL, USDC
from support.chains.chain_fixture import LocalChains
from support.chains.paying import mine, rpc, send_transfer
from support.chains.rpc_proxy import RpcProxy
from support.gateway.clock import MovableClock


class Gateway:
    """The books of a gateway that was paid on a real chain, by four wallets."""

    def __init__(
        self, chains: LocalChains, proxy: RpcProxy, pay_to: str, db: Database, directory: Path
    ) -> None:
        self.chains = chains
        self.proxy = proxy
        self.url = chains.arbitrum.rpc_urls[0]
        self.pay_to = pay_to
        self.db = db
        self.directory = directory
        self.first_block = 0

    async def pay(self, wallet: DevWallet, amount: int) -> str:
        return await send_transfer(self.url, wallet.private_key, USDC.address, self.pay_to, amount)

    async def transfers(self, *hashes: str) -> list[Transfer]:
        client = RpcClient(self.chains.arbitrum)
        verifier = Verifier(
            pay_to=self.pay_to,
            clients={"arbitrum": client},
            clock=SystemClock(),
            safe_above=MicroUsd(10**12),
        )
        try:
            return [
                one
                for tx_hash in hashes
                for one in await verifier.transfers(
                    chain=self.chains.arbitrum, token=USDC, tx_hash=tx_hash
                )
            ]
        finally:
            await client.close()

    async def watch(self) -> None:
        """Search up to the newest block, as a running gateway would."""
        await mine(self.url)
        client = RpcClient(msgspec.structs.replace(self.chains.arbitrum, watch_from_block=1))
        watcher = Watcher(
            db=self.db,
            client=client,
            recipients={self.pay_to.lower()},
            safe_above=MicroUsd(10**12),
            clock=SystemClock(),
        )
        try:
            await watcher.look()
        finally:
            await client.close()

    def settings(self, *urls: str) -> Any:
        chains = {"arbitrum": {"rpc_urls": urls or (self.proxy.url,)}}
        return load_settings(
            file=None,
            environ={},
            data_dir=str(self.directory),
            pay_to=self.pay_to,
            chains=chains,
            rpc_timeout_seconds=30,
        )

    async def audit(self, **given: Any) -> Report:
        return await run_audit(
            self.settings(), from_block=given.get("from_block"), search=given.get("search", True)
        )

    def corrupt(self, statement: str) -> None:
        with closing(sqlite3.connect(self.directory / "moorage.db")) as connection:
            assert connection.execute(statement).rowcount > 0
            connection.commit()


@pytest.fixture
async def gateway(
    local_chains: LocalChains,
    arbitrum_proxy: RpcProxy,
    pay_to: str,
    db: Database,
    clock: MovableClock,
    tmp_path: Path,
) -> Gateway:
    made = Gateway(local_chains, arbitrum_proxy, pay_to, db, tmp_path)
    one, two, three, four, back, *_ = local_chains.wallets.wallets
    hashes = [await made.pay(wallet, 500_000) for wallet in (one, one, one, one, two, two, three)]
    transfers = await made.transfers(*hashes, await made.pay(four, 2_500))
    sent = [
        await send_transfer(made.url, back.private_key, USDC.address, wallet.address, amount)
        for wallet, amount in ((one, 200_000), (three, 500_000))
    ]
    await keep_busy(db, clock, transfers, sent)
    await made.watch()
    return made


def rows(report: Report) -> list[str]:
    return [item.row.split()[0] for item in report.findings]


async def test_honest_books_agree_with_the_chain(gateway: Gateway) -> None:
    report = await gateway.audit()
    assert (report.findings, report.pending, report.unknown) == ([], [], {})
    usdc, usdt = report.totals
    assert (usdc.received, usdc.held, usdc.sent_back) == ("3502500", "500000", "700000")
    assert (usdt.received, usdt.held, usdt.sent_back) == ("0", "0", "0")
    assert report.payments == 9
    assert report.burned_micro_usd == 5_500 + 5_000 + 2_500
    given = 90_000
    assert report.balances_micro_usd == 5 * 500_000 + given - 200_000 - 5_500 - 5_000


async def test_busy_gateway_is_audited_while_it_writes(gateway: Gateway) -> None:
    async with gateway.db.transaction(durable=True):
        assert (await gateway.audit()).findings == []


REFUNDED = "WHERE status = 'refunded'"
FIRST = "WHERE rowid = (SELECT min(rowid) FROM payments WHERE status = 'credited')"


@pytest.mark.parametrize(
    ("corruption", "row"),
    [
        (f"UPDATE payments SET tx_hash = '0x{'12' * 32}' {FIRST}", "payment"),
        (f"UPDATE payments SET log_index = log_index + 1 {FIRST}", "payment"),
        (f"UPDATE payments SET payer = '{CAROL}' {FIRST}", "payment"),
        (f"UPDATE payments SET amount_atomic = '500001' {FIRST}", "payment"),
        (f"UPDATE payments SET token_address = '{CAROL}' {FIRST}", "payment"),
        (
            f"UPDATE payments SET block_hash = '0x{'12' * 32}', finality = 'finalized' {FIRST}",
            "payment",
        ),
        (
            f"UPDATE payments SET block_number = 1, finality = 'safe' {FIRST}",
            "payment",
        ),
        (f"UPDATE payments SET status = 'reversed' {FIRST}", "payment"),
        (f"DELETE FROM payments {FIRST}", "payment"),
        ("DELETE FROM payments WHERE status = 'held'", "payment"),
        (
            f"UPDATE refunds SET refund_tx_hash = '0x{'12' * 32}' WHERE status = 'refunded'",
            "refund",
        ),
        (f"UPDATE refunds SET recipient = '{CAROL}' WHERE status = 'refunded'", "refund"),
        ("UPDATE chain_marks SET block_number = block_number + 1000000", "watch"),
    ],
)
async def test_row_that_the_chain_does_not_bear_out_is_found(
    gateway: Gateway, corruption: str, row: str
) -> None:
    """Compared with the chain alone: the books' own comparisons find most of these as well."""
    gateway.corrupt(corruption)
    own = {item.row for item in (await gateway.audit(search=False)).findings}
    report = await gateway.audit()
    assert row in rows(report)
    told = [item.problem for item in report.findings]
    chains_words = ("chain", "arrived", "block", "holds no such transfer", "pay it back")
    assert any(word in problem for problem in told for word in chains_words), (told, own)


async def number_of(url: str, tx_hash: str) -> int:
    """The block of a transaction."""
    return int((await rpc(url, "eth_getTransactionReceipt", tx_hash))["blockNumber"], 16)


async def test_payment_that_nobody_recorded_is_found(gateway: Gateway) -> None:
    payer = gateway.chains.wallets.wallets[5]
    tx_hash = await gateway.pay(payer, 77)

    before = await gateway.audit()
    assert before.findings == []
    number = await number_of(gateway.url, tx_hash)
    assert [item.problem for item in before.pending] == [
        f"77 from {payer.address.lower()} arrived and is not recorded, in block {number}"
    ]

    await gateway.watch()
    assert (await gateway.audit()).pending == []

    gateway.corrupt(f"DELETE FROM payments WHERE tx_hash = '{tx_hash}'")
    found = (await gateway.audit()).findings
    assert any(tx_hash in item.row and "arrived" in item.problem for item in found)
    fast = (await gateway.audit(search=False)).findings
    assert not any("arrived" in item.problem for item in fast)
    late = await gateway.audit(from_block=2**40)
    assert not any("arrived" in item.problem for item in late.findings)


async def test_provisional_payment_in_another_block_waits_for_the_finality_check(
    gateway: Gateway,
) -> None:
    gateway.corrupt(f"UPDATE payments SET block_hash = '0x{'12' * 32}' {FIRST}")
    report = await gateway.audit()
    assert report.findings == []
    assert [item.row.split()[0] for item in report.pending] == ["payment"]


async def test_search_on_a_replaced_branch_is_pending_until_it_has_stepped_back(
    gateway: Gateway,
) -> None:
    gateway.corrupt(
        f"UPDATE chain_marks SET block_number = 1, value = '0x{'12' * 32}' WHERE subject LIKE 's%'"
    )
    report = await gateway.audit()
    assert report.findings == []
    assert {item.row.split(":")[0] for item in report.pending} == {"watch cursor arbitrum"}

    await gateway.watch()
    assert (await gateway.audit()).pending == []


def lie(method: str, change: Callable[[Any], Any]) -> Callable[[str, Any], Any]:
    return lambda asked, result: change(result) if asked == method else result


@pytest.mark.parametrize(
    "alter",
    [
        lie("eth_blockNumber", lambda _: "0x1"),
        lie("eth_chainId", lambda _: "0x1"),
        lie("eth_getLogs", lambda _: "nonsense"),
        lie("eth_getLogs", lambda logs: [{**logs[0], "topics": []}, *logs]),
        lie("eth_getTransactionReceipt", lambda receipt: {**receipt, "status": "0x2"}),
        lie("eth_getTransactionReceipt", lambda receipt: {**receipt, "blockHash": "0x12"}),
    ],
)
async def test_chain_that_lies_or_lags_is_unknown_not_wrong_and_not_right(
    gateway: Gateway, alter: Callable[[str, Any], Any]
) -> None:
    gateway.proxy.alter = alter
    report = await gateway.audit()
    assert report.findings == []
    assert list(report.unknown) == ["arbitrum"]


@pytest.mark.parametrize(("honest", "search"), [(0, False), (1, True)])
async def test_node_that_is_behind_makes_nothing_seem_missing(
    gateway: Gateway, honest: int, search: bool
) -> None:
    """Behind when receipts are asked for, or only when transfers are searched for."""
    heads: list[str] = []

    def behind(method: str, result: Any) -> Any:
        if method != "eth_blockNumber":
            return result
        heads.append(result)
        return result if len(heads) <= honest else "0x1"

    gateway.proxy.alter = behind
    report = await gateway.audit(search=search)
    assert (report.findings, list(report.unknown)) == ([], ["arbitrum"])


async def test_silent_chain_is_unknown_but_the_books_are_audited(gateway: Gateway) -> None:
    async def refuse(request: web.Request) -> web.Response:
        return web.Response(status=503)

    gateway.proxy.respond = refuse
    gateway.corrupt("UPDATE wallets SET balance_micro_usd = balance_micro_usd + 1")
    report = await gateway.audit()
    assert set(rows(report)) == {"wallet"}
    assert list(report.unknown) == ["arbitrum"]


async def test_ranges_that_a_node_refuses_are_asked_for_in_parts(gateway: Gateway) -> None:
    asked = []
    forward = gateway.proxy.forward

    async def bounded(request: web.Request) -> web.StreamResponse:
        for call in await request.json():
            if call["method"] == "eth_getLogs":
                span = call["params"][0]
                blocks = int(span["toBlock"], 16) - int(span["fromBlock"], 16) + 1
                asked.append(blocks)
                if blocks > 3:
                    error = {"code": -32005, "message": "too many blocks"}
                    calls = await request.json()
                    return web.json_response(
                        [
                            {"jsonrpc": "2.0", "id": each["id"], "error": error}
                            if each["method"] == "eth_getLogs"
                            else {"jsonrpc": "2.0", "id": each["id"], "result": "0xa4b1"}
                            for each in calls
                        ]
                    )
        return await forward(request)

    gateway.proxy.respond = bounded
    first = int(await rpc(gateway.url, "eth_blockNumber"), 16) - 20
    report = await gateway.audit(from_block=first)
    assert (report.findings, report.unknown) == ([], {})
    assert max(asked) > 3
    assert sum(blocks for blocks in asked if blocks <= 3) == 2 * 21  # what came, what went


async def test_long_receipts_are_read_one_by_one(gateway: Gateway) -> None:
    """Two of them are more than is read at once: transactions with thousands of others' logs."""
    padding = "0" * 5_000_000
    gateway.proxy.alter = lie(
        "eth_getTransactionReceipt", lambda receipt: {**receipt, "padding": padding}
    )
    report = await gateway.audit(search=False)
    assert (report.findings, report.unknown) == ([], {})


@pytest.mark.parametrize(
    ("corruption", "urls", "code"),
    [
        (None, None, 0),
        ("UPDATE wallets SET balance_micro_usd = balance_micro_usd + 1", None, 1),
        (None, "http://127.0.0.1:1/", 4),
        ("UPDATE wallets SET balance_micro_usd = balance_micro_usd + 1", "http://127.0.0.1:1/", 1),
    ],
)
async def test_exit_code_tells_right_wrong_and_unknown_apart(
    gateway: Gateway,
    capsys: pytest.CaptureFixture[str],
    corruption: str | None,
    urls: str | None,
    code: int,
) -> None:

    config = gateway.directory / "moorage.toml"
    config.write_text(
        f'data_dir = "{gateway.directory}"\n[payments]\npay_to = "{gateway.pay_to}"\n'
        f'[chains.arbitrum]\nrpc_urls = ["{urls or gateway.url}"]\n'
    )
    if corruption:
        gateway.corrupt(corruption)
    arguments = ["operator", "audit", "--config", str(config)]
    assert await asyncio.to_thread(run, arguments) == code
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1].startswith({0: "ok", 1: "4 wrong", 4: "unknown"}[code])
    assert await asyncio.to_thread(run, [*arguments, "--json"]) == code
    document = msgspec.json.decode(capsys.readouterr().out)
    assert document["ok"] is (code == 0)
    assert len(document["report"]["findings"]) == (4 if code == 1 else 0)


async def test_books_that_are_not_there_are_not_made(tmp_path: Path) -> None:

    arguments = ["operator", "audit", "--data-dir", str(tmp_path / "nowhere")]
    assert await asyncio.to_thread(run, arguments) == 2
    assert not (tmp_path / "nowhere").exists()
