"""Status polls of a gateway whose books are on a PostgreSQL server, and of two beside each other.

The machine has two cores, and the load generator one of them: so two gateways cannot answer twice
as much here. What counts is processor time: a gateway carries what one core of it answers, and two
carry the sum, as long as the server's share of each request is small.

Two have a Valkey server. Without it the limit of requests, which is none here, would be counted in
a row that gets longer with each request of a minute; an operator's has thirty entries.
"""

import asyncio
import contextlib
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from chain_fixture import running_chains
from gateway import REPOSITORY, UNLIMITED, api_port, deployed, funded, gateway
from gateway_fixture import DevGateway
from load import Load, drive, request_bytes
from measure import SERVER_CPU, Row, cpu_seconds, median, on_cpu, spread
from members import Pair, running_pair
from moorage.chains.local.anvil import find_anvil
from postgres_fixture import PostgresServer
from signing import Signer
from valkey_fixture import ValkeyServer
from wallet import Answer, Wallet

ROUNDS = 3
REQUESTS = 2_000


def run() -> list[Row]:
    """Polls of one gateway on a file and on a server, and of one and two that share Valkey."""
    with tempfile.TemporaryDirectory(prefix="moorage-bench-") as directory, server() as postgres:
        with gateway() as started:
            on_file = Polls([started], *one_deployed(started)).rounds()
        url = postgres.url(postgres.create())
        with gateway(database_url=url) as started:
            alone = Polls([started], *one_deployed(started), postgres).rounds()
        valkey = ValkeyServer(Path(directory))
        try:
            with pair(Path(directory) / "pair", postgres, valkey_url=valkey.url) as both:
                wallet, answer = one_deployed(both.first)
                one = Polls([both.first], wallet, answer, postgres).rounds()
                two = Polls(both.members, wallet, answer, postgres).rounds()
        finally:
            valkey.stop()
    return rows(on_file, alone, one, two)


class Polls:
    """Signed status polls of all of some gateways at once."""

    def __init__(
        self,
        gateways: Sequence[DevGateway],
        wallet: Wallet,
        answer: Answer,
        postgres: PostgresServer | None = None,
    ) -> None:
        self._gateways = gateways
        self._signer = Signer.of(wallet.key)
        project, deployment = answer.body["projectId"], answer.body["deploymentId"]
        self._path = f"/agent/deploy/{project}/{deployment}/status"
        self._postgres = postgres
        self.carried: list[float] = []
        """Requests that a core for each gateway answers in a second, in each round."""

        self.server_share: list[float] = []
        """Processor time of the database's server for each second of the gateways'."""

    def rounds(self) -> "Polls":
        """Measures, after a round to warm up."""
        for _ in range(ROUNDS + 1):
            before = self._server_seconds()
            with ThreadPoolExecutor(len(self._gateways)) as threads:
                loads = list(threads.map(self._drive, self._gateways))
            used = sum(load.server_cpu_seconds for load in loads)
            self.carried.append(sum(load.per_cpu_second for load in loads))
            self.server_share.append((self._server_seconds() - before) / used)
        del self.carried[0], self.server_share[0]
        return self

    def _drive(self, of: DevGateway) -> Load:
        headers = (self._signer.headers() for _ in range(REQUESTS))
        requests = [request_bytes("GET", self._path, each) for each in headers]
        return drive(api_port(of), of.pid, requests, expect=200)

    def _server_seconds(self) -> float:
        if self._postgres is None:
            return 0.0
        return sum(cpu_seconds(pid, children=True) for pid in self._postgres.processes())


def rows(on_file: Polls, alone: Polls, one: Polls, two: Polls) -> list[Row]:
    """Figures against what is wanted."""
    file, server = median(on_file.carried), median(alone.carried)
    shares, both = median(one.carried), median(two.carried)
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
        Row(
            "polls, and Valkey for several",
            f"{shares:,.0f} r/CPU-s",
            note=f"{shares / server:.2f} of a gateway that shares nothing; {spread(one.carried)}",
        ),
        Row(
            "two gateways that share ÷ one",
            f"{both / shares:.2f}×",
            "≥ 1.8×",
            both / shares >= 1.8,
            f"PostgreSQL's own is {median(two.server_share):.0%} of theirs; {spread(two.carried)}",
        ),
    ]


def one_deployed(of: DevGateway) -> tuple[Wallet, Answer]:
    async def deploy() -> tuple[Wallet, Answer]:
        wallet = await funded(of)
        return wallet, await deployed(wallet, "bench-hello", "hello-node")

    return asyncio.run(deploy())


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
        url = postgres.url(postgres.create())
        limit = {"requests_per_minute": UNLIMITED}
        with running_pair(
            directory / "data", url=url, chains=chains, **(limit | settings)
        ) as started:
            yield started
