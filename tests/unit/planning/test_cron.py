"""Due times of schedules, against another computation: each minute of the year, one by one."""

from datetime import UTC, date, datetime, timedelta
from functools import cache
from itertools import takewhile
from zoneinfo import ZoneInfo

import pytest

from moorage.planning.cron import check_cron, due_after

_MINUTE = timedelta(minutes=1)


def times(cron: str, timezone: str, *, begin: datetime, end: datetime) -> list[datetime]:
    """What `due_after` gives of a span."""
    found = due_after(cron, timezone, int(begin.timestamp()) * 1000 - 1)
    within = takewhile(lambda at_ms: at_ms < end.timestamp() * 1000, found)
    return [datetime.fromtimestamp(at_ms / 1000, UTC) for at_ms in within]


def _numbers(field: str, first: int, last: int) -> set[int]:
    found: set[int] = set()
    for term in field.split(","):
        span, _, step = term.partition("/")
        low, _, high = (f"{first}-{last}" if span == "*" else span).partition("-")
        found |= set(range(int(low), int(high or (last if step else low)) + 1, int(step or 1)))
    return found


def _is_on(cron: str, day: date) -> bool:
    _, _, of_month, month, of_week = cron.split()
    if day.month not in _numbers(month, 1, 12):
        return False
    is_day = day.day in _numbers(of_month, 1, 31)
    is_weekday = day.isoweekday() % 7 in {each % 7 for each in _numbers(of_week, 0, 7)}
    if of_month.startswith("*") or of_week.startswith("*"):
        return is_day and is_weekday
    return is_day or is_weekday


@cache
def _walk(timezone: str) -> list[tuple[datetime, datetime, bool, tuple[datetime, ...]]]:
    """Each minute of the year: the time, what clocks show, whether for the first time, and what
    they skipped just before.
    """
    zone, at = ZoneInfo(timezone), YEAR["begin"]
    before = (at - _MINUTE).astimezone(zone).replace(tzinfo=None)
    walked, seen = [], before
    while at < YEAR["end"]:
        wall = at.astimezone(zone).replace(tzinfo=None)
        gap = max(0, int((wall - before) / _MINUTE) - 1)
        skipped = tuple(before + (each + 1) * _MINUTE for each in range(gap))
        walked.append((at, wall, wall > seen, skipped))
        before, seen, at = wall, max(seen, wall), at + _MINUTE
    return walked


def modelled(cron: str, timezone: str) -> list[datetime]:
    """The same of the year by Debian's rules, from a walk over each minute."""
    minute, hour = cron.split()[:2]
    minutes, hours = _numbers(minute, 0, 59), _numbers(hour, 0, 23)
    follows_clock = minute.startswith("*") or hour.startswith("*")

    def matches(wall: datetime) -> bool:
        is_time = wall.minute in minutes and wall.hour in hours
        return is_time and _is_on(cron, wall.date())

    return [
        at
        for at, wall, is_first, skipped in _walk(timezone)
        if (matches(wall) and (follows_clock or is_first))
        or (not follows_clock and any(map(matches, skipped)))
    ]


YEAR = {"begin": datetime(2027, 1, 1, tzinfo=UTC), "end": datetime(2028, 1, 1, tzinfo=UTC)}
ZONES = ("Europe/Berlin", "America/New_York", "Australia/Lord_Howe")
CRONS = (
    "*/15 * * * *",
    "30 2 * * *",
    "0,30 1-3 * * *",
    "15 */4 * * *",
    "* 4 * * 0",
    "0 3 13 * 5",
    "59 23 31 * *",
    "5 0 * */2 1-5",
)


@pytest.mark.parametrize("timezone", ZONES)
def test_a_year_is_due_as_a_walk_over_its_minutes_finds(timezone: str) -> None:
    """With the days on which clocks change, in each half of the world, by half an hour too."""
    for cron in CRONS:
        assert times(cron, timezone, **YEAR) == modelled(cron, timezone), cron


def test_half_past_two_in_berlin_comes_once_a_day_as_clocks_change() -> None:
    spring = {"begin": datetime(2027, 3, 27, tzinfo=UTC), "end": datetime(2027, 3, 29, tzinfo=UTC)}
    assert [f"{at:%d %H:%M}" for at in times("30 2 * * *", "Europe/Berlin", **spring)] == [
        "27 01:30",
        "28 01:00",  # 2:30 was skipped: 3:00 is right after it
    ]
    autumn = {
        "begin": datetime(2027, 10, 30, 12, tzinfo=UTC),
        "end": datetime(2027, 11, 1, tzinfo=UTC),
    }
    assert [f"{at:%d %H:%M}" for at in times("30 2 * * *", "Europe/Berlin", **autumn)] == [
        "31 00:30"  # the first of two
    ]


def test_next_after_the_second_half_past_two_is_tomorrow() -> None:
    repeated = datetime(2027, 10, 31, 1, 10, tzinfo=UTC)  # 2:10 in winter time
    found = next(due_after("30 2 * * *", "Europe/Berlin", int(repeated.timestamp()) * 1000))
    assert datetime.fromtimestamp(found / 1000, UTC) == datetime(2027, 11, 1, 1, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("cron", "why"),
    [
        ("0 0 30 2 *", "is no cron"),
        ("0 0 31 4,6 *", "is no cron"),
        ("0 0 * * * *", "five fields"),
        ("@daily", "five fields"),
        ("60 * * * *", "bad minute"),
        ("* * * * " + "1," * 60 + "1", "five fields"),
        ("x * * * *", "bad minute"),
    ],
)
def test_cron_that_is_none_or_never_falls_due_is_refused(cron: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        check_cron(cron, "UTC")


@pytest.mark.parametrize("timezone", ["Mars/Olympus", "../../etc/passwd", "Europe", "", "é"])
def test_time_zone_that_is_none_is_refused(timezone: str) -> None:
    with pytest.raises(ValueError, match="time zone"):
        check_cron("0 0 * * *", timezone)
