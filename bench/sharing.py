"""Gateways whose books are on a PostgreSQL server, and two of them beside each other.

A machine of two cores can't show what two machines carry: two gateways, the server and the load
generator would take turns. So each gateway is given a fifth of a core and no more, and what
counts is requests a second; one and two take turns within each round. Two share used nonces and
counts of requests. They are compared with one that shares as much, with a second that rests, and
with one that shares nothing.

Each poll is of one of many deployments, and each top-up of a wallet and an address of its own. Else
the limits, which are none here, would be counted in rows that get longer with each request of a
minute; an operator's have thirty entries.
"""

import asyncio
import random
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from itertools import cycle, islice
from pathlib import Path

from bounded import hierarchy
from carried import Carried
from customers import Customers, fill
from gateway import REPOSITORY, UNLIMITED, api_port, gateway, one_deployed
from load import drive, request_bytes, tcp
from measure import Row, median, spread
from moorage.chains.local.devchain import find_anvil
from moorage.storage.apps import deployments
from moorage.storage.opening import open_database
from paid import paying_request
from signing import Signer
from sleeping import sleeper
from support.books.postgres_fixture import PostgresServer
from support.chains.chain_fixture import LocalChains, running_chains
from support.gateway.gateway_fixture import DevGateway
from support.gateway.members import Member, Pair, running_pair

ROUNDS = 5
POLLS_OF_BOOKS = 1_500
POLLS, TOP_UPS = 600, 100  # of a gateway, in a round
DEPLOYMENTS = 600
ALONE, ONE, TWO = "one alone", "one", "two"
POLLS_WANTED, TOP_UPS_WANTED = 1.8, 1.6
_CREDITS = "/agent/credits"
_NOW_MS = 1_775_556_000_000
_SETTINGS = {
    "trusted_proxies": "127.0.0.1/32",
    "disk_overcommit": "100",
    "app_disk_mib": "64",
}
_HERE = Path(__file__).parent


def run() -> list[Row]:
    """What a server for the books costs; then one gateway and two."""
    with tempfile.TemporaryDirectory(prefix="moorage-bench-") as directory, server() as postgres:
        return [*_of_books(postgres), *_of_two(Path(directory), postgres)]


def _of_books(postgres: PostgresServer) -> list[Row]:
    """Processor time of a gateway on a file, and on a server."""
    found: tuple[list[float], list[float]] = ([], [])
    with gateway() as of_file, gateway(database_url=url_at(postgres)) as of_server:
        measured = [(each, _polls_of_one(each)) for each in (of_file, of_server)]
        for number in range(ROUNDS + 1):
            for (each, polls), carried in zip(measured, found, strict=True):
                load = drive(api_port(each), each.pid, polls(), expect=200)
                if number:  # the first is to warm up
                    carried.append(load.per_cpu_second)
    on_file, on_server = found
    ratio = median(on_file) / median(on_server)
    return [
        Row("polls, books in a file", f"{median(on_file):,.0f} r/CPU-s", note=spread(on_file)),
        Row(
            "polls, books on a server", f"{median(on_server):,.0f} r/CPU-s", note=spread(on_server)
        ),
        Row("processor time of a poll, server ÷ file", f"{ratio:.2f}×", "≤ 2×", ratio <= 2),
    ]


def _polls_of_one(of: DevGateway) -> Callable[[], list[bytes]]:
    wallet, answer = one_deployed(of)
    signer = Signer.of(wallet.key)
    path = status_path(answer.body["projectId"], answer.body["deploymentId"])
    return lambda: [request_bytes("GET", path, signer.headers()) for _ in range(POLLS_OF_BOOKS)]


def _of_two(directory: Path, postgres: PostgresServer) -> list[Row]:
    """Requests a second of one gateway and of two, each with its share of a core."""
    found = hierarchy()
    if found is None:
        why = "not measured: to bound processor time takes root and the kernel's cpu controller"
        return [Row("two gateways ÷ one", "", note=why)]
    with ExitStack() as stack:
        polls, top_ups = _carried(stack, directory, postgres)
        for _ in range(ROUNDS):
            for each in (*polls.values(), *top_ups.values()):
                each.round(found, postgres)
    return [
        *_rows("polls", polls, wanted=POLLS_WANTED),
        *_rows("paid top-ups", top_ups, wanted=TOP_UPS_WANTED),
    ]


def _carried(
    stack: ExitStack, directory: Path, postgres: PostgresServer
) -> tuple[dict[str, Carried], dict[str, Carried]]:
    """Runs all gateways; returns those that take turns, for polls and for top-ups."""
    polled = Polled()
    alone = stack.enter_context(_alone(postgres, polled))
    chains = stack.enter_context(
        running_chains(directory, find_anvil([REPOSITORY / "node_modules"]))
    )
    pair = stack.enter_context(_pair(directory / "pair", postgres, polled, chains=chains))
    first, second = pair.members
    gateways: dict[str, list[DevGateway]] = {ALONE: [alone], ONE: [first], TWO: [first, second]}
    return (
        {name: Carried(each, polled.requests) for name, each in gateways.items()},
        {name: Carried(each, _top_ups) for name, each in gateways.items()},
    )


def _rows(what: str, carried: Mapping[str, Carried], *, wanted: float) -> list[Row]:
    """One that shares nothing; then two against one."""
    alone = carried[ALONE]
    rows = [
        Row(
            f"{what}, a gateway that shares nothing",
            f"{median(alone.per_second):,.0f} a second",
            note=alone.note,
        )
    ]
    one, two = carried[ONE], carried[TWO]
    for ratio, beside, subject in (
        (two.over(one), one, f"{what}, two that share ÷ one of them"),
        (two.over(alone), alone, f"{what}, two that share ÷ one that shares nothing"),
    ):
        note = f"{median(two.per_second):,.0f} ÷ {median(beside.per_second):,.0f} a second"
        if beside is one:
            note += f"; two: {two.note}; one: {one.note}"
        rows.append(Row(subject, f"{ratio:.2f}×", f"≥ {wanted}×", ratio >= wanted, note))
    return rows


def _top_ups(of: DevGateway) -> list[bytes]:
    """Top-ups by authorization, each of a wallet and an address of its own."""
    caller = tcp(api_port(of))
    try:
        return [
            paying_request(caller, _CREDITS, signed=True, **{"X-Forwarded-For": _address()})
            for _ in range(TOP_UPS)
        ]
    finally:
        caller.close()


def _address() -> str:
    return ".".join(str(random.randrange(1, 224)) for _ in range(4))


class Polled:
    """Deployments of apps that sleep, each of a wallet of its own, and polls of them in turn."""

    def __init__(self) -> None:
        self._signers = [Signer.new() for _ in range(DEPLOYMENTS)]
        self._paths: dict[Path, list[str]] = {}

    def put(self, url: str, data_dir: Path) -> None:
        """Puts them into the books of a gateway that does not run, and their files beside."""
        asyncio.run(self._put(url, data_dir))

    def requests(self, of: DevGateway) -> list[bytes]:
        """The polls of a round."""
        paths = self._paths[of.data_dir]
        at = random.randrange(DEPLOYMENTS)
        taken = islice(cycle(zip(self._signers, paths, strict=True)), at, at + POLLS)
        return [request_bytes("GET", path, signer.headers()) for signer, path in taken]

    async def _put(self, url: str, data_dir: Path) -> None:
        db = open_database(url)
        try:
            wallets = [signer.address.lower() for signer in self._signers]
            made_up = Customers(
                projects=DEPLOYMENTS,
                projects_of_wallet=1,
                wallets=wallets,
                asleep=DEPLOYMENTS,
                billed_ms=_NOW_MS,
            )
            ids = await fill(db, made_up)
            for number, deployment_id in enumerate(ids):
                sleeper(data_dir / "apps" / "deployments" / deployment_id, number)
            found = [await deployments.by_id(db, each) for each in ids]
            self._paths[data_dir] = [
                status_path(each.project_id, each.id) for each in found if each
            ]
        finally:
            db.close()


def status_path(project: str, deployment: str) -> str:
    """Where a deployment's status is asked for."""
    return f"/agent/deploy/{project}/{deployment}/status"


@contextmanager
def _alone(postgres: PostgresServer, polled: Polled) -> Iterator[DevGateway]:
    """One that shares nothing."""
    url, program = url_at(postgres), (sys.executable, str(_HERE / "settled_gateway.py"))
    with gateway(pinned=False, program=program, database_url=url, **_SETTINGS) as started:
        started.kill()
        polled.put(url, started.data_dir)
        started.start()
        yield started


@contextmanager
def _pair(
    directory: Path,
    postgres: PostgresServer,
    polled: Polled,
    *,
    chains: LocalChains,
) -> Iterator[Pair]:
    """Two that share."""
    directory.mkdir()
    url, data_dir = url_at(postgres), directory / "data"
    data_dir.mkdir(mode=0o700)
    polled.put(url, data_dir)
    Member.script = str(_HERE / "settled_member.py")
    settings = {"requests_per_minute": UNLIMITED, **_SETTINGS}
    with running_pair(data_dir, url=url, chains=chains, **settings) as started:
        yield started


def url_at(postgres: PostgresServer) -> str:
    """The URL of a new database."""
    return postgres.url(postgres.create())


@contextmanager
def server() -> Iterator[PostgresServer]:
    """A PostgreSQL server of its own."""
    with tempfile.TemporaryDirectory(prefix="moorage-bench-") as directory:
        started = PostgresServer(Path(directory))
        try:
            yield started
        finally:
            started.stop()
