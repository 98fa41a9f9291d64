"""Two gateways on one database: what happens once does so, whoever is asked, and whoever dies."""

import asyncio
import signal
import uuid
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from moorage.storage.several.leases import LEASE_MS
from support.books.postgres_fixture import PostgresServer
from support.books.postgres_relay import relaying
from support.chains.chain_fixture import LocalChains
from support.chains.paying import token_balance
from support.clients.protocols import demanded, payment_signature
from support.clients.wallet import HELLO, Answer, Wallet, call, deploy_body, fresh_name
from support.gateway.gateway_fixture import DevGateway
from support.gateway.members import Member, Pair, running_pair
from support.gateway.receiver import receiving
from support.gateway.waiting import until

pytestmark = pytest.mark.root

ENDLESS_BUILD = {
    "package.json": '{"scripts": {"build": "sleep 600"}}',
    **HELLO,
}
SLOW_BUILD = {
    "package.json": '{"scripts": {"build": "sleep 5"}}',
    **HELLO,
}


FUNDS = 100_000_000


@pytest.fixture(scope="module")
def database(postgres_server: PostgresServer) -> Iterator[str]:
    name = postgres_server.create()
    yield name
    postgres_server.drop(name)


@pytest.fixture(scope="module")
def pair(
    local_chains: LocalChains,
    postgres_server: PostgresServer,
    database: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Pair]:
    directory = tmp_path_factory.mktemp("pair") / "data"
    with running_pair(directory, url=postgres_server.url(database), chains=local_chains) as pair:
        yield pair


async def at_both(
    pair: Pair, method: str, path: str, *, headers: dict[str, str], json: object = None
) -> list[Answer]:
    """The same request to both at the same time."""
    return await asyncio.gather(
        *(
            call(member, method, path, json=json, headers=headers)
            for member in (pair.first, pair.second)
        )
    )


async def test_each_nonce_key_and_payment_counts_once_whoever_is_asked(pair: Pair) -> None:
    wallet, name = await Wallet(pair.second).fund(), fresh_name()
    for _ in range(10):
        answers = await at_both(pair, "GET", "/agent/projects", headers=wallet.signed())
        assert sorted(answer.status for answer in answers) == [200, 401]
        assert {answer.body.get("code") for answer in answers} == {None, "nonce_reused"}

    body = deploy_body(name, HELLO)
    asked = await wallet.deploy(name)
    tx = await wallet.pay(int(asked.body["amount_token"]))
    key = {"Idempotency-Key": str(uuid.uuid4()), "X-Payment-Tx": tx}
    answers = await asyncio.gather(
        *(
            call(member, "POST", "/agent/deploy", json=body, headers=wallet.signed() | key)
            for member in (pair.first, pair.second, pair.first, pair.second)
        )
    )
    assert {answer.status for answer in answers} <= {200, 409}, answers
    done = [answer for answer in answers if answer.status == 200]
    assert len({answer.body["deploymentId"] for answer in done}) == 1

    assert (await wallet.settled(done[0]))["status"] == "ready"
    assert await wallet.visit(name) == (200, "hello world")
    assert await pair.audit() == []


async def test_other_gateway_deploys_reads_logs_cancels_and_deletes(pair: Pair) -> None:
    wallet = await Wallet(pair.second).fund()
    name = fresh_name()
    deployed = await wallet.deploy_paid(name)
    assert (await wallet.settled(deployed))["status"] == "ready"
    project, deployment = deployed.body["projectId"], deployed.body["deploymentId"]
    logs = f"/agent/deploy/{project}/{deployment}/logs"
    for member in (pair.first, pair.second):
        wallet.gateway = member
        assert (await wallet.status(deployed)).body["status"] == "ready"
        assert (await wallet.call("GET", f"{logs}?kind=build")).status == 200

    later = await wallet.deploy(name, ENDLESS_BUILD)
    assert later.status == 200, later.body
    under_way = f"/agent/deploy/{project}/{later.body['deploymentId']}"
    cancelled = await wallet.call("POST", f"{under_way}/cancel")
    assert cancelled.status == 200, cancelled.body
    assert (await wallet.settled(later))["reason_code"] == "cancelled"
    assert await wallet.visit(name) == (200, "hello world")

    gone = await wallet.call("DELETE", f"/agent/projects/{project}")
    assert (gone.status, gone.body["status"]) == (200, "deleted")
    assert (await wallet.visit(name))[0] == 404


async def test_killed_leaders_build_is_finished_by_the_other_gateway(pair: Pair) -> None:
    wallet = await Wallet(pair.second).fund()
    kept, built = fresh_name(), fresh_name()
    await wallet.settled(await wallet.deploy_paid(kept))
    deployed = await wallet.deploy_paid(built, SLOW_BUILD)
    pair.first.kill()

    assert await wallet.visit(kept) == (200, "hello world")  # apps and proxy go on
    await pair.second.until_keeps()
    assert (await wallet.settled(deployed))["status"] == "ready"
    assert await wallet.visit(built) == (200, "hello world")
    assert await wallet.visit(kept) == (200, "hello world")

    pair.first.start()
    assert not pair.first.keeps
    wallet.gateway = pair.first
    assert (await wallet.status(deployed)).body["status"] == "ready"
    assert await pair.audit() == []


async def test_authorization_that_both_are_shown_settles_once(pair: Pair) -> None:
    wallet, name = await Wallet(pair.second).fund(amount=FUNDS), fresh_name()
    body = deploy_body(name, HELLO)
    asked = await wallet.deploy(name)
    payment = payment_signature(wallet, demanded(asked)["accepts"][0])

    async def insist(member: Member) -> Answer:
        while True:
            headers = wallet.signed() | payment
            answer = await call(member, "POST", "/agent/deploy", json=body, headers=headers)
            if answer.body.get("code") != "payment_pending":
                return answer
            assert answer.body["payment"]["do_not_pay_again"], answer

    async with asyncio.timeout(240):  # only to end a hung test
        answers = await asyncio.gather(*(insist(member) for member in pair.members * 4))
    assert {answer.status for answer in answers} <= {200, 409}, answers
    assert len({answer.body["deploymentId"] for answer in answers}) == 1
    chain = pair.first.info["chains"]["arbitrum"]
    left = await token_balance(chain["rpc_url"], chain["tokens"]["usdc"], wallet.address)
    assert left == FUNDS - int(asked.body["amount_token"])
    assert (await wallet.settled(answers[0]))["status"] == "ready"
    assert await pair.audit() == []


async def test_event_is_delivered_once_by_one_of_them(pair: Pair) -> None:
    wallet = await Wallet(pair.first).fund()
    async with receiving() as receiver:
        made = await wallet.call("PUT", "/agent/webhook", json={"url": receiver.url})
        assert made.status == 200, made.body
        for at in range(6):
            wallet.gateway = pair.members[at % 2]
            tx = await wallet.pay(1_000_000)
            assert (await top_up(wallet, tx)).status == 200
        await until(lambda: len(receiver.got) >= 6)
        assert receiver.sequences == [1, 2, 3, 4, 5, 6]
        assert (await wallet.call("DELETE", "/agent/webhook")).status in (200, 204)


async def top_up(wallet: Wallet, tx: str) -> Answer:
    return await wallet.call("POST", "/agent/credits", headers={"X-Payment-Tx": tx})


async def credits_of(wallet: Wallet) -> float:
    answer = await wallet.deploy(fresh_name(), headers={"X-Dry-Run": "true"})
    return float(answer.body["current_credit_balance_usd"])


async def test_gateway_that_stood_still_for_a_lease_holds_up_nothing_and_doubles_nothing(
    pair: Pair,
) -> None:
    leader, other = sorted(pair.members, key=lambda member: not member.keeps)
    wallet, name = await Wallet(other).fund(), fresh_name()
    assert (await top_up(wallet, await wallet.pay(2_000_000))).status == 200
    deployed = await wallet.deploy(name, SLOW_BUILD)
    assert deployed.status == 200, deployed.body
    leader.signal(signal.SIGSTOP)
    try:
        assert (await top_up(wallet, await wallet.pay(1_000_000))).status == 200
        await wallet.pay(1_000_000)  # which nobody presents
        await until(lambda: credited(wallet, 4.0), seconds=120)
        await asyncio.sleep(LEASE_MS / 1000)
    finally:
        leader.signal(signal.SIGCONT)
    assert (await wallet.settled(deployed))["status"] == "ready"
    assert await wallet.visit(name) == (200, "hello world")
    assert await credits_of(wallet) <= 4.0
    assert await pair.audit() == []


async def credited(wallet: Wallet, usd: float) -> bool:
    """Whether that much was credited; an app's first hour may be charged since."""
    return await credits_of(wallet) > usd - 0.1


async def until_topped_up(wallet: Wallet, tx: str, answer: Answer) -> None:
    """Sends it again until it counts; meanwhile nobody is asked to pay."""
    async with asyncio.timeout(240):  # only to end a hung test
        while answer.status != 200:
            assert answer.body["retryable"], answer
            assert "amount_token" not in answer.body, answer
            answer = await top_up(wallet, tx)


async def test_cut_way_to_the_database_loses_nothing_and_holds_up_no_other(
    pair: Pair, postgres_server: PostgresServer, database: str, tmp_path: Path
) -> None:
    one, two = await Wallet(pair.first).fund(), await Wallet(pair.second).fund()
    with relaying(postgres_server.directory, tmp_path) as relay:
        pair.second.stop()
        pair.second.start(database_url=postgres_server.url(database, directory=tmp_path))
        try:
            paid = [await two.pay(1_000_000) for _ in range(5)]
            asked = [asyncio.create_task(top_up(two, tx)) for tx in paid]
            await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
            relay.is_cut = True
            for _ in range(3):
                tx = await one.pay(1_000_000)
                await until_topped_up(one, tx, await top_up(one, tx))
            relay.is_cut = False
            for tx, task in zip(paid, asked, strict=True):
                await until_topped_up(two, tx, await task)
            assert (await credits_of(one), await credits_of(two)) == (3.0, 5.0)
        finally:
            pair.second.stop()
    pair.second.start()
    assert await pair.audit() == []


async def test_both_go_on_while_a_later_version_upgrades_the_schema_and_neither_starts_on_it(
    pair: Pair, postgres_server: PostgresServer, database: str
) -> None:
    wallet = await Wallet(pair.first).fund()
    deployed = await wallet.deploy_paid(fresh_name())
    server = await asyncpg.connect(postgres_server.url(database))
    tables = await server.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    ours = sorted(row[0] for row in tables if row[0] != "alembic_version")
    (revision,) = await server.fetchrow("SELECT version_num FROM alembic_version")
    try:
        for table in ours:  # each by itself: who holds one and waits for the next may be waited for
            await server.execute(f"ALTER TABLE {table} ADD COLUMN of_later TEXT")
        await server.execute("UPDATE alembic_version SET version_num = '9999'")

        assert (await wallet.settled(deployed))["status"] == "ready"
        for member in pair.members:
            wallet.gateway = member
            name = fresh_name()
            await wallet.settled(await wallet.deploy_paid(name))
            assert await wallet.visit(name) == (200, "hello world")

        leader, other = sorted(pair.members, key=lambda member: not member.keeps)
        leader.stop()
        wallet.gateway = other
        await until(lambda: is_unwell(other), seconds=60)
        assert not other.keeps
        assert "leaves the apps to others" in other.log
        waits = await wallet.deploy_paid(fresh_name())
        assert await wallet.visit(name) == (200, "hello world")
        with pytest.raises(AssertionError, match="newer version of Moorage"):
            leader.start()
    finally:
        await server.execute("UPDATE alembic_version SET version_num = $1", revision)
        await server.close()
    await other.until_keeps()
    assert (await wallet.settled(waits))["status"] == "ready"
    leader.start()
    assert await pair.audit() == []


async def is_unwell(member: Member) -> bool:
    """Whether the gateway says that it left the apps to others."""
    told = DevGateway(member.data_dir)
    told.info = {"gateway": member.operator}
    parts = (await call(told, "GET", "/ready")).body["parts"]
    return "newer version" in parts["leader"]
