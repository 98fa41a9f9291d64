"""What requests, rest and a start cost, by the number of projects, and by where the books are.

Each gateway has made-up projects, of which five thousand at most sleep, with files of theirs; the
others are suspended, as their credits ran out. docs/run/capacity.md draws conclusions.
"""

import asyncio
import contextlib
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import unpaid
from customers import Customers, fill
from gateway import api_port, gateway
from load import drive
from measure import MIB, Row, cpu_seconds, resident_bytes
from moorage.storage.opening import open_database
from sharing import server
from sleeping import sleeper
from support.books.postgres_fixture import PostgresServer
from support.gateway.gateway_fixture import DevGateway

PROJECTS = (10, 10_000)
ON_SERVER = (10,)
MOST_ASLEEP = 5_000  # a sandbox has networks for 8,192 apps
REST_SECONDS = 8.0
_SETTLE_SECONDS = 10.0
_ROUNDS = 3
_NOW_MS = 1_775_556_000_000


def run() -> list[Row]:
    """Each number of projects in a file; two of them on a PostgreSQL server as well."""
    rows = [_measured(projects) for projects in PROJECTS]
    with server() as postgres:
        rows += [_measured(projects, postgres) for projects in ON_SERVER]
    return rows


def _measured(projects: int, postgres: PostgresServer | None = None) -> Row:
    with _filled(projects, postgres) as (started, start_seconds):
        names = (f"capacity-{number:08d}" for number in count())
        polls = unpaid.polls(started)
        of_server = (api_port(started), started.pid)
        poll_us, demand_us = [], []
        for _ in range(_ROUNDS):
            poll_us.append(1e6 / unpaid.polled(of_server, polls))
            signed = unpaid.requests(names, wallets=20, names_each=40, repeats=1)
            load = drive(*of_server, signed, expect=402, connections=unpaid.CONNECTIONS)
            demand_us.append(1e6 / load.per_cpu_second)
        time.sleep(_SETTLE_SECONDS)
        used, began = cpu_seconds(started.pid, children=True), time.perf_counter()
        time.sleep(REST_SECONDS)
        used = cpu_seconds(started.pid, children=True) - used
        rest = used / (time.perf_counter() - began) * 100
        resident = resident_bytes(started.pid) / MIB
    where = "a file" if postgres is None else "PostgreSQL"
    return Row(
        f"{projects:,} projects, books in {where}",
        f"{min(poll_us):.0f} µs a poll, {min(demand_us):.0f} µs a 402",
        note=f"the best of {_ROUNDS} rounds, processor time of the gateway alone; at rest "
        f"{rest:.2f} % of a core, {resident:.0f} MiB; starts in {start_seconds:.1f} s",
    )


@contextlib.contextmanager
def _filled(projects: int, postgres: PostgresServer | None) -> Iterator[tuple[DevGateway, float]]:
    """A gateway with so many projects, and the seconds until it was ready again with them."""
    url = "" if postgres is None else postgres.url(postgres.create())
    with gateway(database_url=url, disk_overcommit="100", app_disk_mib="64") as started:
        started.kill()
        asyncio.run(_put(started.data_dir, projects, url))
        began = time.perf_counter()
        started.start()
        yield started, time.perf_counter() - began


async def _put(data_dir: Path, projects: int, url: str) -> None:
    db = open_database(url or data_dir / "moorage.db")
    try:
        asleep = min(projects, MOST_ASLEEP)
        made_up = Customers(projects=projects, asleep=asleep, suspended=True, billed_ms=_NOW_MS)
        ids = await fill(db, made_up)
        for number, deployment_id in enumerate(ids[:asleep]):
            sleeper(data_dir / "apps" / "deployments" / deployment_id, number)
    finally:
        db.close()
