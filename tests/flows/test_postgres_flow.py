"""A gateway whose books move to a PostgreSQL server: deploys, restarts, commands, deletion."""

import asyncio
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.books.postgres_fixture import PostgresServer
from support.clients.wallet import HELLO, Wallet, fresh_name
from support.gateway.gateway_fixture import DevGateway, running
from support.gateway.gateway_fixture import moorage as run_moorage

pytestmark = pytest.mark.root


@pytest.fixture
def url(postgres_server: PostgresServer, postgres_pooler: Path) -> Iterator[str]:
    """Of a database without a schema, behind a pooler of transactions."""
    name = postgres_server.create(template="template0")
    yield postgres_server.url(name, directory=postgres_pooler)
    postgres_server.drop(name)


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[DevGateway]:
    """It begins with a file."""
    with running(tmp_path / "data", requests_per_minute="100000") as gateway:
        yield gateway


async def moorage(url: str, *arguments: str) -> Any:
    """The document of an operator's command, which is told of the database by the environment."""
    env = os.environ | {"MOORAGE_DATABASE_URL": url}
    done = await asyncio.to_thread(run_moorage, *arguments, "--json", env=env)
    assert done.stdout, done.stderr
    return json.loads(done.stdout)


async def test_app_outlives_the_move_of_the_books_to_a_server(
    gateway: DevGateway, url: str, tmp_path: Path
) -> None:
    wallet = await Wallet(gateway).fund()
    name = fresh_name()
    of_gateway = f"--data-dir={gateway.data_dir}"
    first = await wallet.deploy_paid(name)
    assert (await wallet.settled(first))["status"] == "ready"
    gateway.stop()
    moved = await moorage(url, "operator", "migrate-database", of_gateway)
    assert (moved["rows"]["payments"], moved["rows"]["projects"]) == (1, 1)

    gateway.start(database_url=url)
    await wallet.until_answers(name)
    gateway.kill()  # as by a crash: the books are the server's
    gateway.start(database_url=url)
    later = await wallet.deploy(name, HELLO, settings={"runEnvs": {"GREETING": "again"}})
    assert later.body["projectId"] == first.body["projectId"]
    assert (await wallet.settled(later))["status"] == "ready"
    assert await wallet.visit(name) == (200, "hello again")
    second = await wallet.deploy_paid(fresh_name())
    assert (await wallet.settled(second))["status"] == "ready"

    report = await moorage(url, "operator", "audit", of_gateway)
    assert report["ok"], report
    assert report["report"]["payments"] == 2
    saved = await moorage(url, "operator", "backup", str(tmp_path / "saved"), of_gateway)
    assert (saved["apps"], saved["lost"]) == (3, [])
    gone = await wallet.call("DELETE", f"/agent/projects/{first.body['projectId']}")
    assert (gone.status, gone.body["status"]) == (200, "deleted")
    assert not (gateway.data_dir / "moorage.db").exists()
    assert "moorage@" not in gateway.log  # the URL is secret
    facts = {item["name"]: item for item in (await moorage(url, "check"))["findings"]}
    assert facts["database"]["ok"]
    assert "pooler" in facts["database"]["detail"]
