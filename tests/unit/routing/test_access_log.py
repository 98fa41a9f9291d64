"""Following an access log over restarts and half-written lines."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from moorage.records.usage import BUCKETS, HOUR_MS, Batch, Position
from moorage.routing.access_log import AccessLog

TEN = 1_775_556_000  # 2026-04-07T10:00:00Z
TOKEN = "0123456789abcdef" * 2
MIB = 1 << 20


def line(
    host: str,
    *,
    status: int = 200,
    sizes: str = "0 3",
    at: float = TEN,
    latency: int = 1,
    held: str = "-",
    by: str = "app",
    probe: str = "-",
) -> str:
    """One line as the proxy writes it; `host` is one whose app was asked."""
    return f"{round(at * 1000)} {host} {status} {sizes} {latency} {held} {by} {probe}\n"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The first file, whose process runs on."""
    return tmp_path / "0001.log"


def append(path: Path, *lines: str) -> None:
    with path.open("a") as file:
        file.write("".join(lines))


@contextmanager
def running(path: Path) -> Iterator[None]:
    """A process that has the file open."""
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        yield


def followed(log: AccessLog, position: Position | None = None) -> tuple[dict[str, int], Position]:
    """Requests by host of all that follows, and the position at its end."""
    counts: dict[str, int] = {}
    while (batch := log.read(position)) is not None:
        position = batch.position
        for (host, _), traffic in batch.traffic.items():
            counts[host] = counts.get(host, 0) + traffic.requests
    assert position is not None
    return counts, position


def read(path: Path, *lines: str) -> Batch:
    append(path, *lines)
    batch = AccessLog(path.parent, probe_token=TOKEN).read(None)
    assert batch is not None
    return batch


def test_requests_are_counted_by_host_and_hour(path: Path) -> None:
    batch = read(
        path,
        line("a.localhost", status=200, sizes="5 10"),
        line("a.localhost", status=404, sizes="0 1", at=TEN + 1.5),
        line("a.localhost", status=101, at=TEN + 3_600),
        line("b.localhost", status=503),
    )
    hour = TEN * 1000
    assert set(batch.traffic) == {
        ("a.localhost", hour),
        ("a.localhost", hour + HOUR_MS),
        ("b.localhost", hour),
    }
    first = batch.traffic["a.localhost", hour]
    assert (first.requests, first.bytes_in, first.bytes_out) == (2, 5, 11)
    assert (first.status_2xx, first.status_4xx, first.status_5xx) == (1, 1, 0)
    assert first.last_at_ms == hour + 1_500
    assert batch.traffic["a.localhost", hour + HOUR_MS].status_1xx == 1
    assert batch.traffic["b.localhost", hour].status_5xx == 1


def test_latency_is_counted_beside_the_time_for_which_requests_were_held(path: Path) -> None:
    batch = read(
        path,
        line("a.localhost", latency=3),
        line("b.localhost", latency=0),
        line("a.localhost", latency=0, held="952/702"),
        line("paged.localhost", status=502, latency=9, by="-"),
    )
    assert {host for host, _ in batch.traffic} == {"a.localhost", "b.localhost"}
    assert batch.traffic["b.localhost", TEN * 1000].slowest_ms == 1  # rounded up
    traffic = batch.traffic["a.localhost", TEN * 1000]
    assert traffic.requests == 2
    counted = dict(zip(BUCKETS, traffic.latency, strict=True))
    assert {name: count for name, count in counted.items() if count} == {
        "within_5_ms": 1,
        "within_1000_ms": 1,
    }
    assert (traffic.slowest_ms, traffic.held, traffic.held_ms) == (702, 1, 250)


def test_pages_and_probes_and_what_is_no_line_are_no_traffic(path: Path) -> None:
    batch = read(
        path,
        line("paged.localhost", status=502, by="-"),
        line("left.localhost", status=-1, latency=-1, by="-"),
        line("probed.localhost", probe=TOKEN),
        line("visited.localhost", probe="f" * 32),
        "no line of the proxy's\n",
    )
    assert {host for host, _ in batch.traffic} == {"visited.localhost"}
    assert batch.tried == {"paged.localhost", "left.localhost", "visited.localhost"}


def test_each_line_is_read_once(path: Path) -> None:
    log = AccessLog(path.parent, probe_token=TOKEN)
    assert log.read(None) is None
    with running(path):
        append(path, line("a.localhost"))
        counts, position = followed(log)
        assert counts == {"a.localhost": 1}
        assert log.read(position) is None
        append(path, line("b.localhost"))
        counts, position = followed(log, position)
        assert counts == {"b.localhost": 1}


def test_half_a_line_waits_for_its_end(path: Path) -> None:
    log = AccessLog(path.parent, probe_token=TOKEN)
    text = line("b.localhost")
    with running(path):
        append(path, line("a.localhost"), text[:-10])
        counts, position = followed(log)
        assert counts == {"a.localhost": 1}
        append(path, text[-10:])
        assert followed(log, position)[0] == {"b.localhost": 1}


def test_no_line_is_lost_or_doubled_while_one_process_takes_over_from_another(path: Path) -> None:
    log, second = AccessLog(path.parent, probe_token=TOKEN), path.with_name("0002.log")
    with running(path), running(second):
        append(path, line("a.localhost"))
        append(second, line("b.localhost"))
        counts, position = followed(log)
        assert counts == {"a.localhost": 1, "b.localhost": 1}
        append(second, line("b.localhost"))
        append(path, line("a.localhost"))
        counts, position = followed(log, position)
        assert counts == {"a.localhost": 1, "b.localhost": 1}
        append(path, line("last.localhost"))
    assert followed(log, position)[0] == {"last.localhost": 1}


def test_file_is_deleted_once_all_is_counted_and_its_process_has_ended(path: Path) -> None:
    log = AccessLog(path.parent, probe_token=TOKEN)
    with running(path):
        append(path, line("a.localhost"))
        _, position = followed(log)
        assert log.read(position) is None
        assert path.exists()
        append(path, line("a.localhost"))
    batch = log.read(position)
    assert batch is not None
    assert path.exists()  # nobody has said yet that this batch is counted
    assert log.read(batch.position) is None
    assert not path.exists()


def test_another_process_reads_on_where_the_last_stopped(path: Path) -> None:
    with running(path):
        append(path, line("a.localhost"))
        _, position = followed(AccessLog(path.parent, probe_token=TOKEN))
        append(path, line("b.localhost"))
        again = AccessLog(path.parent, probe_token=TOKEN)
        assert followed(again, position)[0] == {"b.localhost": 1}


def test_position_of_files_that_are_gone_goes_on_with_the_oldest(path: Path) -> None:
    append(path, line("a.localhost"))
    gone = Position("0000.log:77 4d2f9a", 77)
    assert followed(AccessLog(path.parent, probe_token=TOKEN), gone)[0] == {"a.localhost": 1}


def test_much_is_read_in_parts_and_what_is_counted_takes_no_space(path: Path) -> None:
    lines = [line(f"h{n % 3}.localhost", at=TEN + n) for n in range(60_000)]
    with running(path):
        append(path, *lines)
        log = AccessLog(path.parent, probe_token=TOKEN)
        batch = log.read(None)
        assert batch is not None
        assert 0 < batch.position.offset < path.stat().st_size
        counts, position = followed(log)
        assert counts == {f"h{n}.localhost": 20_000 for n in range(3)}
        assert log.read(position) is None
        assert path.stat().st_size > 2 * MIB
        assert path.stat().st_blocks * 512 <= MIB + 65_536
        append(path, line("next.localhost"))
        assert followed(log, position)[0] == {"next.localhost": 1}
