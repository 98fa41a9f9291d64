"""Two gateways on one database: what happens once does so, whoever is asked, and whoever dies."""

import asyncio
import uuid
from collections.abc import Iterator

import pytest

from chain_fixture import LocalChains
from members import Pair, running_pair
from postgres_fixture import PostgresServer
from wallet import HELLO, Answer, Wallet, call, deploy_body, fresh_name

pytestmark = pytest.mark.root

ENDLESS_BUILD = {
    "package.json": '{"scripts": {"build": "sleep 600"}}',
    **HELLO,
}
SLOW_BUILD = {
    "package.json": '{"scripts": {"build": "sleep 5"}}',
    **HELLO,
}


@pytest.fixture(scope="module")
def pair(
    local_chains: LocalChains,
    postgres_server: PostgresServer,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Pair]:
    name = postgres_server.create()
    directory = tmp_path_factory.mktemp("pair") / "data"
    with running_pair(directory, url=postgres_server.url(name), chains=local_chains) as pair:
        yield pair
    postgres_server.drop(name)


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


async def test_killed_keepers_build_is_finished_by_the_other_gateway(pair: Pair) -> None:
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
