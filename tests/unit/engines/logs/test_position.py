from pathlib import Path

from moorage.engines.logs.logs import Fresh, Position, parse_ns, to_second

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
