"""The books, kept apart from the product: what the chain says arrived, and what became of it."""

import asyncio
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

import asyncpg
from stage import CHAIN, Stage

from support.chains.paying import rpc
from support.clients.wallet import Wallet
from support.gateway.waiting import until

TRANSFER = "0xddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef"


async def arrived(stage: Stage, wallet: Wallet) -> int:
    """What the wallet has sent to the gateway, by the chain's logs; atomic units, as micro-USD."""
    chain = stage.info["chains"][CHAIN]
    payer, *ours = [
        "0x" + party[2:].lower().rjust(64, "0") for party in (wallet.address, *stage.recipients)
    ]
    logs = await rpc(
        chain["rpc_url"],
        "eth_getLogs",
        {
            "fromBlock": "0x0",
            "toBlock": "latest",
            "address": list(chain["tokens"].values()),
            "topics": [TRANSFER, payer, ours],
        },
    )
    return sum(int(log["data"], 16) for log in logs)


async def returned(stage: Stage, wallet: Wallet) -> int:
    """What was sent back to the wallet from the gateway's addresses, by the chain's logs."""
    chain = stage.info["chains"][CHAIN]
    payer, *ours = [
        "0x" + party[2:].lower().rjust(64, "0") for party in (wallet.address, *stage.recipients)
    ]
    asked = {
        "fromBlock": "0x0",
        "toBlock": "latest",
        "address": list(chain["tokens"].values()),
        "topics": [TRANSFER, ours, payer],
    }
    logs = await rpc(chain["rpc_url"], "eth_getLogs", asked)
    return sum(int(log["data"], 16) for log in logs)


def refunds(stage: Stage, wallet: Wallet) -> list[tuple[str, str]]:
    """Status and finality of every refund to the wallet."""
    statement = "SELECT status, finality FROM refunds WHERE recipient = ?"
    return _all(stage, statement, wallet.address.lower())


def credited(stage: Stage, wallet: Wallet) -> int:
    """What the ledger has given the wallet so far, in micro-USD, whatever it spent since."""
    (total,) = _one(
        stage,
        "SELECT coalesce(sum(amount_micro_usd), 0) FROM entries JOIN postings ON id = posting_id "
        "WHERE account = ? AND kind IN ('payment', 'reversal')",
        f"wallet:{wallet.address.lower()}",
    )
    return int(total)


def spent(stage: Stage, wallet: Wallet) -> int:
    """What its apps burned and what was paid back to it, in micro-USD."""
    (total,) = _one(
        stage,
        "SELECT coalesce(-sum(amount_micro_usd), 0) FROM entries JOIN postings ON id = posting_id "
        "WHERE account = ? AND kind NOT IN ('payment', 'reversal')",
        f"wallet:{wallet.address.lower()}",
    )
    return int(total)


def balance(stage: Stage, wallet: Wallet) -> int:
    """Its balance as the gateway goes by it, in micro-USD."""
    row = _one(
        stage, "SELECT balance_micro_usd FROM wallets WHERE address = ?", wallet.address.lower()
    )
    return int(row[0]) if row else 0


def deployments(stage: Stage, wallet: Wallet) -> list[str]:
    """The status of every deployment it ever had."""
    rows = _all(
        stage,
        "SELECT deployments.status FROM deployments JOIN projects ON projects.id = project_id "
        "WHERE wallet = ?",
        wallet.address.lower(),
    )
    return [status for (status,) in rows]


def finality(stage: Stage, wallet: Wallet) -> list[str]:
    """How final each of its payments is that was not taken back."""
    rows = _all(
        stage,
        "SELECT finality FROM payments WHERE payer = ? AND status = 'credited'",
        wallet.address.lower(),
    )
    return [finality for (finality,) in rows]


def projects(stage: Stage, wallet: Wallet) -> list[str]:
    """The status of every project it has."""
    rows = _all(stage, "SELECT status FROM projects WHERE wallet = ?", wallet.address.lower())
    return [status for (status,) in rows]


def _one(stage: Stage, statement: str, *given: str) -> Any:
    return next(iter(_all(stage, statement, *given)), None)


def _all(stage: Stage, statement: str, *given: str) -> list[Any]:
    if stage.books_url:
        with ThreadPoolExecutor(1) as thread:  # the test's own loop stands still meanwhile
            return thread.submit(asyncio.run, _asked(stage.books_url, statement, given)).result()
    with closing(sqlite3.connect(f"file:{stage.database}?mode=ro", uri=True)) as db:
        return db.execute(statement, given).fetchall()


async def _asked(url: str, statement: str, given: tuple[str, ...]) -> list[Any]:
    """The rows that a server returns, once it answers: it may be starting."""
    for number in range(1, len(given) + 1):
        statement = statement.replace("?", f"${number}", 1)
    found: list[Any] = []

    async def ask() -> bool:
        try:
            connection = await asyncpg.connect(url)
        except (OSError, asyncpg.PostgresError):
            return False
        try:
            found[:] = [tuple(row) for row in await connection.fetch(statement, *given)]
        except (OSError, asyncpg.InterfaceError, asyncpg.PostgresError):
            return False
        finally:
            connection.terminate()
        return True

    await until(ask)
    return found
