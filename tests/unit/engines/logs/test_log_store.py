"""A log on disk: what was appended reads back, in order, from any place, up to the cap."""

import errno
import os
import re
import threading
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from moorage.engines.engine import LogLine
from moorage.engines.logs.collector import (
    BURST_BYTES,
    HELD_BYTES,
    RATE_BYTES,
    Budget,
    Entry,
    Intake,
    Lines,
)
from moorage.engines.logs.logs import PAGE_BYTES, Fresh, Position, parse_ns, read_log, to_second
from moorage.engines.logs.store import ERR, GATEWAY, LINE_BYTES, OUT, append, segments
from moorage.records.deployment import LogStream

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


SECOND = 1_000_000_000


def test_times_are_read_to_the_nanosecond() -> None:
    assert parse_ns(b"1970-01-01T00:00:01.234567891Z") == 1_234_567_891
    assert parse_ns(b"1970-01-01T00:00:02Z") == 2 * SECOND
    assert parse_ns(b"1970-01-01T00:00:02.5Z") == 2_500_000_000
    assert parse_ns(b"1970-01-01T01:00:02.000000001+01:00") == 2 * SECOND + 1
    for wrong in (b"no time", b"", b"1970-13-01T00:00:02Z", b"\xff"):
        assert parse_ns(wrong) is None


def test_time_is_asked_from_its_second_on() -> None:
    assert to_second(2_999_999_999) == "1970-01-01T00:00:02Z"


def test_lines_read_again_are_neither_lost_nor_doubled() -> None:
    written = [1, 2, 2, 2, 3, 5, 5]
    for cut in range(len(written) + 1):
        position = Position(source="pod")
        for at_ns in written[:cut]:
            position = position.after(at_ns)
        fresh = Fresh(position)
        second = [at_ns for at_ns in written if fresh.takes(at_ns)]
        assert written[:cut] + second == written


def test_position_is_that_of_its_source_alone(tmp_path: Path) -> None:
    path = tmp_path / "position"
    assert Position.read(path, source="one") == Position(source="one")
    Position(source="one", starts=2).after(7).write(path)
    assert Position.read(path, source="one") == Position(source="one", starts=2, last_ns=7, count=1)
    assert Position.read(path, source="two") == Position(source="two")
    path.write_text("{")
    assert Position.read(path, source="one") == Position(source="one")


MIB = 1024 * 1024
CAP = 3 * MIB


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path


def put(log: Path, *texts: str, at_ms: int = 1, letter: bytes = OUT, cap: int = CAP) -> None:
    append(log, letter, [text.encode() for text in texts], at_ms=at_ms, cap_bytes=cap)


def everything(log: Path, *, after: int = 0, limit: int = 10_000) -> list[LogLine]:
    found: list[LogLine] = []
    while (page := read_log(log, after=after, limit=limit)).lines:
        found += page.lines
        after = page.next
    return found


def shown(lines: tuple[LogLine, ...] | list[LogLine]) -> list[str]:
    return [line.text for line in lines]


def test_line_lies_on_disk_as_time_letter_and_text(log: Path) -> None:
    put(log, "hello world", at_ms=1712345678901)
    put(log, "oops", at_ms=1712345678902, letter=ERR)
    (segment,) = log.iterdir()
    assert segment.read_bytes() == b"1712345678901 o hello world\n1712345678902 e oops\n"
    assert segment.name == "0000000000000000"


def test_lines_tell_when_and_where_from(log: Path) -> None:
    for letter, text in ((OUT, "a"), (ERR, ""), (GATEWAY, " c o d ")):
        put(log, text, at_ms=5, letter=letter)
    assert everything(log) == [
        LogLine(5, LogStream.OUT, "a", 6),
        LogLine(5, LogStream.ERR, "", 11),
        LogLine(5, LogStream.GATEWAY, " c o d ", 23),
    ]


@given(st.lists(st.lists(st.binary(max_size=30).map(lambda b: b.replace(b"\n", b"")))))
def test_any_lines_read_back_whole_from_any_place(
    tmp_path_factory: pytest.TempPathFactory, batches: list[list[bytes]]
) -> None:
    log = tmp_path_factory.mktemp("log")
    for batch in batches:
        append(log, OUT, batch, at_ms=1, cap_bytes=CAP)
    wanted = [text.decode("utf-8", "replace") for batch in batches for text in batch]
    found = everything(log, limit=3)
    assert shown(found) == wanted
    for number, line in enumerate(found, 1):
        assert shown(everything(log, after=line.cursor)) == wanted[number:]


def test_oldest_are_dropped_and_the_cap_is_kept(log: Path) -> None:
    for number in range(6_000):
        put(log, f"{number} " + "x" * 1000)
        if number % 500 == 0:
            assert sum(path.stat().st_size for path in log.iterdir()) <= CAP
    found = everything(log)
    numbers = [int(line.text.split()[0]) for line in found]
    assert numbers == list(range(numbers[0], 6_000))
    kept = sum(len(line.text) for line in found)
    assert CAP - MIB - 70_000 < kept <= CAP


def test_place_stays_good_when_older_segments_are_dropped(log: Path) -> None:
    put(log, *(["old " + "x" * 1000] * 2_500))
    place = read_log(log, tail=1, limit=1).next
    put(log, "marked")
    put(log, *(["new " + "x" * 1000] * 1_200))
    assert segments(log)[0][0] > 0
    assert read_log(log, after=place, limit=1).lines[0].text == "marked"


def test_place_that_is_no_longer_kept_goes_on_at_the_oldest(log: Path) -> None:
    put(log, *(f"{number} " + "x" * 1000 for number in range(6_000)))
    first = segments(log)[0][0]
    page = read_log(log, after=10, limit=1)
    assert page.lines[0].cursor > first
    assert page.lines == read_log(log, after=first, limit=1).lines


def test_segment_dropped_while_it_is_looked_at_costs_no_place(log: Path) -> None:
    """Listed, and gone when its size is asked: else a reader would be told to begin anew."""
    put(log, *(f"{number} " + "x" * 1000 for number in range(6_000)))
    place = read_log(log, tail=2, limit=1).next
    (log / "0000000000000000").symlink_to(log / "dropped")
    page = read_log(log, after=place, limit=1)
    assert (shown(page.lines)[0].split()[0], page.next) == ("5999", segments_end(log))


def segments_end(log: Path) -> int:
    """Where the log ends, by the newest segment's name and size."""
    newest = max(log.iterdir(), key=lambda path: path.name)
    return int(newest.name) + newest.stat().st_size


def test_place_never_reached_begins_anew(log: Path) -> None:
    put(log, "one", "two")
    assert shown(read_log(log, after=10**9, limit=9).lines) == ["one", "two"]


def test_place_amid_a_line_goes_on_at_the_next(log: Path) -> None:
    put(log, "one", "two", "three")
    second = read_log(log, limit=1).next
    assert shown(read_log(log, after=second + 3, limit=9).lines) == ["three"]


def test_tail_gives_the_last_lines(log: Path) -> None:
    put(log, *(f"{number} " + "x" * 700 for number in range(4_000)))
    found = read_log(log, tail=1_000, limit=10_000).lines
    assert [int(line.text.split()[0]) for line in found] == list(range(3_000, 4_000))
    assert shown(read_log(log, tail=1, limit=9).lines) == [found[-1].text]


def test_tail_larger_than_a_page_is_a_page_of_whole_lines(log: Path) -> None:
    put(log, *(f"{number} " + "x" * 700 for number in range(4_000)))
    found = read_log(log, tail=10_000, limit=10_000).lines
    numbers = [int(line.text.split()[0]) for line in found]
    assert numbers == list(range(numbers[0], 4_000))
    assert PAGE_BYTES - 800 < sum(len(line.text) + 5 for line in found) <= PAGE_BYTES


@pytest.mark.parametrize(
    ("since_ms", "first"), [(0, 0), (1_000, 0), (1_001, 1), (4_499, 3_499), (5_000, None)]
)
def test_since_gives_what_is_not_older(log: Path, since_ms: int, first: int | None) -> None:
    for number in range(4_000):
        put(log, f"{number} " + "x" * 500, at_ms=1_000 + number)
    found = read_log(log, since_ms=since_ms, limit=1).lines
    expected = [] if first is None else [first]
    assert [int(line.text.split()[0]) for line in found] == expected


def test_since_and_tail_give_the_fewer(log: Path) -> None:
    for number in range(10):
        put(log, str(number), at_ms=number + 1)
    assert shown(read_log(log, since_ms=9, tail=5, limit=9).lines) == ["8", "9"]
    assert shown(read_log(log, since_ms=2, tail=3, limit=9).lines) == ["7", "8", "9"]


def test_line_cut_short_by_a_crash_spoils_no_other(log: Path) -> None:
    put(log, "before")
    with (log / "0000000000000000").open("ab") as segment:
        segment.write(b"17 o cut sh")
    assert shown(everything(log)) == ["before"]
    put(log, "after")
    assert shown(everything(log)) == ["before", "cut sh", "after"]


def test_rubbish_is_shown_without_a_time(log: Path) -> None:
    (log / "0000000000000000").write_bytes(b"\0\0\0\xff\n7 q who\n7 o fine\n")
    found = everything(log)
    assert [(line.at_ms, line.text) for line in found] == [
        (0, "\0\0\0\ufffd"),
        (0, "7 q who"),
        (7, "fine"),
    ]


def test_rubbish_without_end_is_passed_over(log: Path) -> None:
    (log / "0000000000000000").write_bytes(bytes(MIB))
    put(log, "still here")
    page = read_log(log, limit=9)
    assert page.lines == ()
    assert shown(read_log(log, after=page.next, limit=9).lines)[-1] == "still here"


def test_two_who_append_at_once_lose_nothing(log: Path) -> None:
    def write(name: str) -> None:
        for number in range(400):
            put(log, f"{name} {number} " + "x" * 4_000, cap=64 * MIB)

    writers = [threading.Thread(target=write, args=(name,)) for name in "ab"]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    found = [line.text.split() for line in everything(log)]
    for name in "ab":
        assert [int(words[1]) for words in found if words[0] == name] == list(range(400))


def test_full_disk_is_an_error_that_leaves_the_log_readable(
    log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(log, "before")
    real = os.write
    with monkeypatch.context() as patched:
        patched.setattr(os, "write", lambda fd, block: real(fd, block[:9]))
        with pytest.raises(OSError, match="space") as caught:
            put(log, "does not fit")
    assert caught.value.errno == errno.ENOSPC
    put(log, "after")
    texts = shown(everything(log))
    assert (texts[0], texts[-1]) == ("before", "after")


def test_log_that_is_not_there_reads_as_empty(tmp_path: Path) -> None:
    page = read_log(tmp_path / "none", tail=5, limit=5)
    assert (page.lines, page.next) == ((), 0)
    with pytest.raises(FileNotFoundError):
        put(tmp_path / "none", "lost")
