"""A gateway whose books are on a PostgreSQL server, from a first deploy to its deletion."""

import asyncio
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway_fixture import MOORAGE, DevGateway, running
from postgres_fixture import PostgresServer
from wallet import HELLO, Wallet, fresh_name

pytestmark = pytest.mark.root


@pytest.fixture
def url(postgres_server: PostgresServer, postgres_pooler: Path) -> Iterator[str]:
    """Of a database without a schema, behind a pooler of transactions."""
    name = postgres_server.create(template="template0")
    yield postgres_server.url(name, directory=postgres_pooler)
    postgres_server.drop(name)


@pytest.fixture
def gateway(url: str, tmp_path: Path) -> Iterator[DevGateway]:
    with running(tmp_path / "data", database_url=url, requests_per_minute="100000") as gateway:
        yield gateway


async def moorage(url: str, *arguments: str) -> Any:
    """The document of an operator's command, which is told of the database by the environment."""
    done = await asyncio.to_thread(
        subprocess.run,
        [MOORAGE, *arguments, "--json"],
        env=os.environ | {"MOORAGE_DATABASE_URL": url},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout, done.stderr
    return json.loads(done.stdout)


async def test_app_is_paid_for_served_replaced_and_deleted(gateway: DevGateway, url: str) -> None:
    wallet = await Wallet(gateway).fund()
    name = fresh_name()
    first = await wallet.deploy_paid(name)
    assert (await wallet.settled(first))["status"] == "ready"
    assert (await wallet.visit(name))[0] == 200

    gateway.kill()  # as by a crash: the books are the server's
    gateway.start()
    later = await wallet.deploy(name, HELLO, settings={"runEnvs": {"GREETING": "again"}})
    assert later.body["projectId"] == first.body["projectId"]
    assert (await wallet.settled(later))["status"] == "ready"
    await wallet.until_answers(name)
    assert await wallet.visit(name) == (200, "hello again")

    assert not (gateway.data_dir / "moorage.db").exists()
    report = await moorage(url, "audit", f"--data-dir={gateway.data_dir}")
    assert report["ok"], report
    assert report["report"]["payments"] == 1
    gone = await wallet.call("DELETE", f"/agent/projects/{first.body['projectId']}")
    assert (gone.status, gone.body["status"]) == (200, "deleted")
    assert "moorage@" not in gateway.log  # the URL is secret
    facts = {item["name"]: item for item in (await moorage(url, "check"))["findings"]}
    assert facts["database"]["ok"]
    assert "pooler" in facts["database"]["detail"]
