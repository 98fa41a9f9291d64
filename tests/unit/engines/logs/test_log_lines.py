"""From bytes to lines: any bytes, in any pieces, at any rate."""

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from moorage.engines.logs.collector import (
    BURST_BYTES,
    HELD_BYTES,
    RATE_BYTES,
    Budget,
    Entry,
    Intake,
    Lines,
)
from moorage.engines.logs.store import GATEWAY, LINE_BYTES, OUT

MIB = 1024 * 1024
LEFT_OUT = re.compile(rb"(\d+) bytes left out: ")


def intake(now: float = 0.0) -> Intake:
    return Intake(OUT, Budget(now))


def texts(entries: list[Entry], letter: bytes = OUT) -> list[bytes]:
    return [text for whose, lines in entries if whose == letter for text in lines]


def left_out(entries: list[Entry]) -> int:
    told = [LEFT_OUT.match(text) for text in texts(entries, GATEWAY)]
    return sum(int(match[1]) for match in told if match)


@given(st.lists(st.binary(max_size=40) | st.sampled_from([b"\n", b"", b"\r\n", b"\xc3", b"\xa9"])))
@example([b"a", b"\n", b"\n", b"b\nc"])
def test_any_bytes_in_any_pieces_come_out_as_their_lines(chunks: list[bytes]) -> None:
    lines = Lines()
    found = [text for chunk in chunks for text in lines.feed(chunk)] + lines.flush()
    *whole, rest = b"".join(chunks).split(b"\n")
    assert found == whole + ([rest] if rest else [])


@given(st.lists(st.integers(1, 3 * LINE_BYTES), max_size=4), st.integers(500, 2 * LINE_BYTES))
def test_long_lines_come_in_pieces_that_lose_nothing(lengths: list[int], size: int) -> None:
    stream = b"".join(b"x" * length + b"\n" for length in lengths)
    lines = Lines()
    found = [t for n in range(0, len(stream), size) for t in lines.feed(stream[n : n + size])]
    assert b"".join(found) == stream.replace(b"\n", b"")
    assert all(0 < len(text) <= LINE_BYTES for text in found)
    assert len(found) == sum(-(-length // LINE_BYTES) for length in lengths)


def test_no_piece_ends_amid_a_character() -> None:
    text = "x" + "é" * LINE_BYTES
    lines = Lines()
    found = lines.feed(text.encode() + b"\n")
    assert "".join(piece.decode() for piece in found) == text


def test_text_given_before_its_end_makes_no_empty_line() -> None:
    lines = Lines()
    lines.feed(b"waiting...")
    assert lines.flush() == [b"waiting..."]
    assert lines.feed(b"\n\nnext\n") == [b"", b"next"]


def test_nothing_is_left_out_within_burst_and_rate() -> None:
    line = b"x" * 1006 + b"\n"  # 1 KiB on disk
    taking, now, found = intake(), 0.0, []
    for _ in range(BURST_BYTES // 1024):
        found += taking.take(line, now)
    for _ in range(10 * RATE_BYTES // 1024):
        now += 1024 / RATE_BYTES
        found += taking.take(line, now)
    assert texts(found) == [line[:-1]] * ((BURST_BYTES + 10 * RATE_BYTES) // 1024)


def test_flood_is_held_to_the_rate_and_what_is_missing_is_told() -> None:
    chunk = (b"y" * 99 + b"\n") * 655
    taking, now, found, sent = intake(), 0.0, [], 0
    while now < 10:
        found += taking.take(chunk, now)
        sent += len(chunk)
        now += len(chunk) / (50 * MIB)
    found += taking.flush()
    kept = sum(len(text) + 1 for text in texts(found))
    assert kept + left_out(found) == sent
    assert kept < BURST_BYTES + 10 * RATE_BYTES + 2 * HELD_BYTES
    assert kept > 0.6 * (BURST_BYTES + 10 * RATE_BYTES)
    assert len(texts(found, GATEWAY)) <= 12


def test_end_of_a_flood_is_kept() -> None:
    taking = intake()
    found = [entry for _ in range(400) for entry in taking.take(b"z" * 65_535 + b"\n", 0.0)]
    found += taking.take(b"Traceback\nthe reason\n", 0.0)
    assert texts(found)[-1] != b"the reason"
    assert texts(taking.flush())[-2:] == [b"Traceback", b"the reason"]


def test_empty_lines_count_as_much_as_they_take_on_disk() -> None:
    taking, found = intake(), []
    for _ in range(64):
        found += taking.take(b"\n" * 65_536, 0.0)
    assert 17 * len(texts(found)) < BURST_BYTES + 18 * 65_536


def test_flood_on_one_stream_leaves_another_log_its_share() -> None:
    flooded, other = intake(), intake()
    for _ in range(1000):
        flooded.take(b"x" * 65_535 + b"\n", 0.0)
    assert texts(other.take(b"prompt\n", 0.0)) == [b"prompt"]


@pytest.mark.parametrize("kept", [0, 1])
def test_what_could_not_be_written_is_told_once_it_can(kept: int) -> None:
    taking = intake()
    lost = taking.take(b"one\ntwo\n", 0.0)
    taking.lose(lost[kept:])
    again = taking.take(b"three\n", 0.0)
    assert left_out(again) == (0 if kept else 8)
    taking.lose(again)  # the remark too
    assert left_out(taking.flush()) == (0 if kept else 8) + 6
