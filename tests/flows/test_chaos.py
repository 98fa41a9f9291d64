"""Two gateways and their PostgreSQL server, all of which fail again and again under paid work.

`make chaos` goes on for five minutes; `make test` for half a minute.
"""

import asyncio
import os
import random
import time
from collections import Counter
from collections.abc import Iterator

import asyncpg
import pytest
from chaos import PATIENCE_SECONDS, Chaos, Client, Visitor

from support.books.postgres_fixture import PostgresServer
from support.chains.chain_fixture import LocalChains
from support.chains.paying import token_balance
from support.clients.wallet import Wallet
from support.gateway.members import Pair, running_pair
from support.gateway.waiting import until

pytestmark = pytest.mark.root

SECONDS = float(os.environ.get("CHAOS_SECONDS", "30"))
SEED = int(os.environ.get("CHAOS_SEED", "1"))
EVERY_SECONDS = 3.0
CLIENTS = 3
FUNDS = 1_000_000_000
CREDITED = """
SELECT count(*), coalesce(sum(amount_micro_usd), 0)::bigint
FROM entries JOIN postings ON postings.id = posting_id
WHERE account = 'wallet:' || $1 AND kind IN ('payment', 'reversal')
"""
DEPLOYMENTS = """
SELECT deployments.status FROM deployments JOIN projects ON projects.id = project_id
WHERE wallet = $1
"""


@pytest.fixture
def database(postgres_server: PostgresServer) -> Iterator[str]:
    name = postgres_server.create()
    yield postgres_server.url(name)
    postgres_server.drop(name)


@pytest.fixture
def pair(
    local_chains: LocalChains,
    database: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Pair]:
    directory = tmp_path_factory.mktemp("chaos") / "data"
    with running_pair(
        directory,
        url=database,
        chains=local_chains,
        app_memory_mib="128",
        app_disk_mib="64",
    ) as pair:
        yield pair


async def test_nothing_is_lost_or_doubled_whatever_fails(
    pair: Pair, database: str, postgres_server: PostgresServer
) -> None:
    clients = [
        Client(pair, random.Random(SEED + each), await Wallet(pair.first).fund(amount=FUNDS))
        for each in range(CLIENTS)
    ]
    visitor = Visitor(clients, random.Random(SEED))
    chaos = Chaos(pair, postgres_server, random.Random(SEED))
    end = time.monotonic() + SECONDS
    async with asyncio.TaskGroup() as tasks:
        for client in clients:
            tasks.create_task(client.live(end))
        tasks.create_task(visitor.live(end))
        tasks.create_task(chaos.run(seconds=SECONDS, every_seconds=EVERY_SECONDS))

    for client in clients:
        await holds(client, database)
    assert await pair.audit() == []
    assert visitor.lapses == []
    tell(clients, visitor, chaos)


async def holds(client: Client, database: str) -> None:
    """Each payment is credited once, each deploy was carried out once, and its app answers."""
    address = client.wallet.address.lower()
    connection = await asyncpg.connect(database)
    try:
        found = await connection.fetchrow(CREDITED, address)
        assert tuple(found) == (len(client.sent), sum(client.sent))
        assert await left_on_the_chain(client.wallet) == FUNDS - sum(client.sent)

        async def done() -> bool:
            rows = await connection.fetch(DEPLOYMENTS, address)
            assert len(rows) == client.deployed
            return {row[0] for row in rows} <= {"ready", "stopped"}

        await until(done, seconds=PATIENCE_SECONDS)
    finally:
        await connection.close()
    for name, paid in client.apps:
        assert await client.outcome(paid) == "ready"
        await client.wallet.until_answers(name)


async def left_on_the_chain(wallet: Wallet) -> int:
    chain = wallet.gateway.info["chains"]["arbitrum"]
    return await token_balance(chain["rpc_url"], chain["tokens"]["usdc"], wallet.address)


def tell(clients: list[Client], visitor: Visitor, chaos: Chaos) -> None:
    """The figures, for who reads them."""
    answers: Counter[str] = sum((client.answers for client in clients), Counter())
    print(
        f"faults {dict(chaos.happened)}; payments {sum(len(one.sent) for one in clients)}, "
        f"deploys {sum(one.deployed for one in clients)}, answers {dict(answers)}; "
        f"longest wait {max(one.longest_seconds for one in clients):.1f} s; "
        f"visits {visitor.visits} of {len(visitor.served)} apps"
    )
