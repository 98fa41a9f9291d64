"""What gateways carry that have a bounded share of a core each."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field

from bounded import bounded
from gateway import api_port
from load import Load, drive
from measure import cpu_seconds, median, spread
from moorage.engines.host.cgroup import Hierarchy
from support.books.postgres_fixture import PostgresServer
from support.gateway.gateway_fixture import DevGateway

CPU_MILLIS = 200


def _seconds(postgres: PostgresServer) -> float:
    """Processor time of PostgreSQL's processes."""
    return sum(cpu_seconds(pid, children=True) for pid in postgres.processes())


@dataclass
class Carried:
    """What some gateways answer, all of them at once."""

    gateways: Sequence[DevGateway]
    requests: Callable[[DevGateway], list[bytes]]  # of a round, at one gateway
    per_second: list[float] = field(default_factory=list)
    used: list[float] = field(default_factory=list)  # of the share that each was given
    own_us: list[float] = field(default_factory=list)  # processor time for a request
    postgres_us: list[float] = field(default_factory=list)

    def round(self, found: Hierarchy, postgres: PostgresServer) -> None:
        """Measures once."""
        made = [self.requests(each) for each in self.gateways]
        before = _seconds(postgres)
        with ExitStack() as stack:
            for each in self.gateways:
                stack.enter_context(bounded(each.pid, CPU_MILLIS, found))
            with ThreadPoolExecutor(len(made)) as threads:
                loads = list(threads.map(_drive, self.gateways, made))
        requests, after = sum(map(len, made)), _seconds(postgres)
        self.per_second.append(sum(load.requests / load.seconds for load in loads))
        used = [load.server_cpu_seconds / load.seconds for load in loads]
        self.used.append(min(used) * 1e3 / CPU_MILLIS)
        self.own_us.append(1e6 * sum(load.server_cpu_seconds for load in loads) / requests)
        self.postgres_us.append(1e6 * (after - before) / requests)

    def over(self, other: "Carried") -> float:
        """How many times as much as others, measured in the same rounds."""
        rounds = zip(self.per_second, other.per_second, strict=True)
        return median([ours / theirs for ours, theirs in rounds])

    @property
    def note(self) -> str:
        """How it was measured, and what a request takes."""
        return (
            f"{spread(self.per_second)} a second; {median(self.used):.0%} of the share used; a "
            f"request takes {median(self.own_us):,.0f} µs, of PostgreSQL "
            f"{median(self.postgres_us):,.0f} µs"
        )


def _drive(of: DevGateway, requests: list[bytes]) -> Load:
    return drive(api_port(of), of.pid, requests, expect=200)
