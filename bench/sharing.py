"""Gateways whose books are on a PostgreSQL server, and two of them beside each other.

The machine has two cores, and the load generator one of them: so two gateways cannot answer twice
as much here. What counts is processor time: a gateway carries what one core of it answers, and two
carry the sum, as long as the server's share of each request is small. What is compared takes turns
within each round.

Two have a Valkey server. Without it the limit of requests, which is none here, would be counted in
a row that gets longer with each request of a minute; an operator's has thirty entries.
"""

import contextlib
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from chain_fixture import running_chains
from gateway import REPOSITORY, UNLIMITED, api_port, gateway, one_deployed
from gateway_fixture import DevGateway
from load import Load, drive, request_bytes, tcp
from measure import SERVER_CPU, Row, cpu_seconds, median, on_cpu, spread
from members import Member, Pair, running_pair
from moorage.chains.local.anvil import find_anvil
from paid import paying_request
from postgres_fixture import PostgresServer
from signing import Signer
from valkey_fixture import ValkeyServer

ROUNDS = 5
POLLS = 1_500
TOP_UPS = 400
_CREDITS = "/agent/credits"

Requests = Callable[[DevGateway], list[bytes]]
"""Makes the requests of a round at one gateway."""


def run() -> list[Row]:
    """One gateway on a file and on a server; then one and two that share Valkey."""
    with tempfile.TemporaryDirectory(prefix="moorage-bench-") as directory, server() as postgres:
        with gateway() as of_file, gateway(database_url=url_at(postgres)) as of_server:
            on_file = Carried([of_file], polls_of(of_file))
            alone = Carried([of_server], polls_of(of_server), postgres)
            in_turn(on_file, alone)
        valkey = ValkeyServer(Path(directory))
        try:
            with pair(Path(directory) / "pair", postgres, valkey_url=valkey.url) as both:
                polls = polls_of(both.first)
                one = Carried([both.first], polls, postgres)
                two = Carried(both.members, polls, postgres)
                in_turn(one, two)
                paid_one = Carried([both.first], top_ups, postgres)
                paid_two = Carried(both.members, top_ups, postgres)
                in_turn(paid_one, paid_two)
        finally:
            valkey.stop()
    return [
        *of_books(on_file, alone),
        of_two("polls", one, two, wanted=1.8),
        of_two("paid top-ups", paid_one, paid_two, wanted=1.6),
    ]


class Carried:
    """What some gateways, all of them at once, answer with the processor time that they use."""

    def __init__(
        self,
        gateways: Sequence[DevGateway],
        requests: Requests,
        postgres: PostgresServer | None = None,
    ) -> None:
        self._gateways = gateways
        self._requests = requests
        self._postgres = postgres
        self.carried: list[float] = []
        """Requests that a core for each gateway answers in a second, in each round."""

        self.server_share: list[float] = []
        """Processor time of the database's server for each second of the gateways'."""

    def round(self) -> None:
        """Measures once."""
        made = [self._requests(each) for each in self._gateways]
        before = self._server_seconds()
        with ThreadPoolExecutor(len(self._gateways)) as threads:
            loads = list(threads.map(_drive, self._gateways, made))
        used = sum(load.server_cpu_seconds for load in loads)
        self.carried.append(sum(load.per_cpu_second for load in loads))
        self.server_share.append((self._server_seconds() - before) / used)

    def forget(self) -> None:
        """Leaves out what was measured so far."""
        self.carried.clear()
        self.server_share.clear()

    def _server_seconds(self) -> float:
        if self._postgres is None:
            return 0.0
        return sum(cpu_seconds(pid, children=True) for pid in self._postgres.processes())


def in_turn(*measured: Carried) -> None:
    """Measures all of them in each round; the first is to warm up."""
    for number in range(ROUNDS + 1):
        for each in measured:
            each.round()
            if number == 0:
                each.forget()


def _drive(of: DevGateway, requests: list[bytes]) -> Load:
    return drive(api_port(of), of.pid, requests, expect=200)


def polls_of(of: DevGateway) -> Requests:
    """Signed status polls of an app that is deployed at one of the gateways."""
    wallet, answer = one_deployed(of)
    signer = Signer.of(wallet.key)
    project, deployment = answer.body["projectId"], answer.body["deploymentId"]
    path = f"/agent/deploy/{project}/{deployment}/status"

    def polls(_: DevGateway) -> list[bytes]:
        return [request_bytes("GET", path, signer.headers()) for _ in range(POLLS)]

    return polls


def top_ups(of: DevGateway) -> list[bytes]:
    """Top-ups by authorization, each of a wallet of its own."""
    caller = tcp(api_port(of))
    try:
        return [paying_request(caller, _CREDITS, signed=True) for _ in range(TOP_UPS)]
    finally:
        caller.close()


def of_books(on_file: Carried, alone: Carried) -> list[Row]:
    """What a server for the books costs."""
    file, server = median(on_file.carried), median(alone.carried)
    return [
        Row("polls, books in a file", f"{file:,.0f} r/CPU-s", note=spread(on_file.carried)),
        Row("polls, books on a server", f"{server:,.0f} r/CPU-s", note=spread(alone.carried)),
        Row(
            "processor time of a poll, server ÷ file",
            f"{file / server:.2f}×",
            "≤ 2×",
            file / server <= 2,
            f"the server's own is {median(alone.server_share):.0%} of the gateway's beside it",
        ),
    ]


def of_two(what: str, one: Carried, two: Carried, *, wanted: float) -> Row:
    """What two carry, of what one does that shares as much."""
    ratio = median([both / alone for both, alone in zip(two.carried, one.carried, strict=True)])
    return Row(
        f"{what}, two gateways ÷ one",
        f"{ratio:.2f}×",
        f"≥ {wanted}×",
        ratio >= wanted,
        f"one {median(one.carried):,.0f} r/CPU-s with Valkey, {spread(one.carried)}; two "
        f"{spread(two.carried)}; PostgreSQL's own is {median(two.server_share):.0%} of theirs",
    )


def url_at(postgres: PostgresServer) -> str:
    """The URL of a new database."""
    return postgres.url(postgres.create())


@contextlib.contextmanager
def server() -> Iterator[PostgresServer]:
    with tempfile.TemporaryDirectory(prefix="moorage-bench-") as directory:
        started = PostgresServer(Path(directory))
        try:
            yield started
        finally:
            started.stop()


@contextlib.contextmanager
def pair(directory: Path, postgres: PostgresServer, **settings: str) -> Iterator[Pair]:
    """Two gateways on chains of their own, all on one core."""
    directory.mkdir()
    anvil = find_anvil([REPOSITORY / "node_modules"])
    with running_chains(directory, anvil) as chains, on_cpu(SERVER_CPU):
        Member.script = str(Path(__file__).with_name("settled_member.py"))
        limit = {"requests_per_minute": UNLIMITED}
        with running_pair(
            directory / "data", url=url_at(postgres), chains=chains, **(limit | settings)
        ) as started:
            yield started
