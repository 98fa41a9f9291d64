"""Following an access log over rolls, restarts and half-written lines."""

import json
from pathlib import Path

import pytest

from moorage.records.latency import BUCKETS
from moorage.records.traffic import HOUR_MS, Batch, Position
from moorage.routing.access_log import AccessLog

TEN = 1_775_556_000  # 2026-04-07T10:00:00Z
TOKEN = "of-this-gateway"


def line(host: str, *, status: int = 200, size: int = 3, at: float = TEN, **more: object) -> str:
    """One line as the proxy writes it; `host` is one whose app was asked."""
    entry = {
        "ts": at,
        "bytes_read": 0,
        "size": size,
        "status": status,
        "served": host,
    }
    return json.dumps(entry | more) + "\n"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "access.log"


def append(path: Path, *lines: str) -> None:
    with path.open("a") as file:
        file.write("".join(lines))


def roll(path: Path, number: int) -> None:
    """As the proxy does: the file is renamed, a new one begun."""
    path.rename(path.with_name(f"access-2026-04-07T10-00-00.{number:03}.log"))


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
    batch = AccessLog(path, probe_token=TOKEN).read(None)
    assert batch is not None
    return batch


def test_requests_are_counted_by_host_and_hour(path: Path) -> None:
    batch = read(
        path,
        line("a.localhost", status=200, size=10, bytes_read=5),
        line("a.localhost", status=404, size=1, at=TEN + 1.5),
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
        line("a.localhost", latency=3.2),
        line("a.localhost", latency=701.5, held=250.4),
        line("a.localhost", latency=None),  # what the app hung up on, say
        line("paged.localhost", page=502, latency=9.0, held=9.0),
    )
    ((key, traffic),) = batch.traffic.items()
    assert (key[0], traffic.requests) == ("a.localhost", 3)
    counted = dict(zip(BUCKETS, traffic.latency, strict=True))
    assert {name: count for name, count in counted.items() if count} == {
        "within_5_ms": 1,
        "within_1000_ms": 1,
    }
    assert (traffic.slowest_ms, traffic.held, traffic.held_ms) == (702, 1, 250)


def test_request_that_was_sent_twice_counts_by_the_answer_that_came(path: Path) -> None:
    twice = line("a.localhost", latency=None).removesuffix("}\n") + ', "latency": 30.0}\n'
    (traffic,) = read(path, twice).traffic.values()
    assert (sum(traffic.latency), traffic.slowest_ms) == (1, 30)


def test_pages_and_probes_and_what_led_nowhere_are_no_traffic(path: Path) -> None:
    nowhere = json.loads(line("x"))
    del nowhere["served"]
    batch = read(
        path,
        line("paged.localhost", page=502),
        line("probed.localhost", probe=TOKEN),
        line("visited.localhost", probe="forged"),
        json.dumps(nowhere | {"page": "404"}) + "\n",
        "no JSON at all\n",
    )
    assert {host for host, _ in batch.traffic} == {"visited.localhost"}
    assert batch.tried == {"paged.localhost", "visited.localhost"}


def test_each_line_is_read_once(path: Path) -> None:
    log = AccessLog(path, probe_token=TOKEN)
    assert log.read(None) is None
    append(path, line("a.localhost"))
    counts, position = followed(log)
    assert counts == {"a.localhost": 1}
    assert log.read(position) is None
    append(path, line("b.localhost"))
    counts, position = followed(log, position)
    assert counts == {"b.localhost": 1}


def test_half_a_line_waits_for_its_end(path: Path) -> None:
    log = AccessLog(path, probe_token=TOKEN)
    text = line("b.localhost")
    append(path, line("a.localhost"), text[:-10])
    counts, position = followed(log)
    assert counts == {"a.localhost": 1}
    append(path, text[-10:])
    assert followed(log, position)[0] == {"b.localhost": 1}


def test_no_line_is_lost_or_doubled_over_rolls(path: Path) -> None:
    log = AccessLog(path, probe_token=TOKEN)
    append(path, line("a.localhost"))
    _, position = followed(log)
    append(path, line("late.localhost"))  # after the reading, before the roll
    for number in range(3):
        roll(path, number)
        append(path, line(f"new{number}.localhost", at=TEN + 1 + number))
    counts, position = followed(log, position)
    assert counts == {
        "late.localhost": 1,
        "new0.localhost": 1,
        "new1.localhost": 1,
        "new2.localhost": 1,
    }
    roll(path, 3)
    assert log.read(position) is None  # nothing new: the next file is not there yet
    append(path, line("next.localhost", at=TEN + 9))
    assert followed(log, position)[0] == {"next.localhost": 1}


def test_another_process_reads_on_where_the_last_stopped(path: Path) -> None:
    append(path, line("a.localhost"))
    _, position = followed(AccessLog(path, probe_token=TOKEN))
    append(path, line("b.localhost"))
    roll(path, 1)
    append(path, line("c.localhost", at=TEN + 1))
    again = AccessLog(path, probe_token=TOKEN)
    assert followed(again, position)[0] == {"b.localhost": 1, "c.localhost": 1}


def test_position_in_a_file_that_is_gone_goes_on_with_the_oldest(path: Path) -> None:
    append(path, line("gone.localhost"))
    log = AccessLog(path, probe_token=TOKEN)
    _, position = followed(log)
    path.unlink()
    append(path, line("a.localhost", at=TEN + 1))
    roll(path, 5)
    append(path, line("b.localhost", at=TEN + 2))
    assert followed(log, position)[0] == {"a.localhost": 1, "b.localhost": 1}


def test_much_is_read_in_parts(path: Path) -> None:
    append(path, *(line(f"h{n % 3}.localhost", at=TEN + n) for n in range(6_000)))
    log = AccessLog(path, probe_token=TOKEN)
    batch = log.read(None)
    assert batch is not None
    assert 0 < batch.position.offset < path.stat().st_size
    counts, _ = followed(log)
    assert counts == {"h0.localhost": 2_000, "h1.localhost": 2_000, "h2.localhost": 2_000}
