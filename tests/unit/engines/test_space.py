"""Who is ended as the machine's disk fills up, and how often it is looked at."""

from dataclasses import replace

import pytest

from moorage.engines.disks.space import MIB, Writer, pause_seconds, victims

RESERVE = 200 * MIB


def writer(name: str, growth_mib: float, *, started: int = 0, is_build: bool = False) -> Writer:
    return Writer(
        deployment_id=name,
        group=f"app-{name}",
        is_build=is_build,
        started_ns=started,
        growth_bytes=round(growth_mib * MIB),
        owed_bytes=0,
        rush_bytes=0,
    )


def ended(*writers: Writer, left_mib: float) -> list[str]:
    chosen = victims(writers, left_bytes=round(left_mib * MIB), reserve_bytes=RESERVE)
    return [each.deployment_id for each in chosen]


def test_nobody_is_ended_while_the_reserve_is_whole() -> None:
    assert ended(writer("greedy", 1000), left_mib=200) == []
    assert ended(writer("greedy", 1000), left_mib=199.9) == ["greedy"]


def test_largest_goes_first_and_what_grows_far_less_stays() -> None:
    writers = [writer("small", 20), writer("large", 400), writer("middle", 150), writer("idle", 0)]
    assert ended(*writers, left_mib=150) == ["large", "middle"]


def test_of_what_grows_alike_builds_go_first_then_the_newest() -> None:
    old, new = writer("old", 300, started=1), writer("new", 260, started=2)
    build = writer("build", 270, is_build=True)
    assert ended(old, new, build, left_mib=150) == ["build", "new", "old"]


def test_fast_writer_is_ended_before_it_reaches_the_reserve() -> None:
    fast = replace(writer("fast", 300), rush_bytes=100 * MIB)
    assert ended(fast, left_mib=301) == []
    assert ended(fast, left_mib=299) == ["fast"]


@pytest.mark.parametrize(
    ("left_mib", "least_mib"),
    [(199, 16), (101, 16), (99, 4), (51, 4), (49, 1), (26, 1), (24, 1 / 16), (-100, 1 / 16)],
)
def test_the_less_is_left_the_smaller_writers_are_ended(left_mib: float, least_mib: float) -> None:
    enough = writer("enough", least_mib)
    assert ended(enough, left_mib=left_mib) == ["enough"]
    less = replace(enough, growth_bytes=enough.growth_bytes - 1)
    assert ended(less, left_mib=left_mib) == []


def test_who_writes_nothing_is_never_ended() -> None:
    assert ended(writer("idle", 0), left_mib=-1000) == []


@pytest.mark.parametrize("spare_mib", [0, 1, 40, 400, 4000, 400_000])
def test_fastest_writer_cannot_pass_what_is_left_between_two_looks(spare_mib: int) -> None:
    """But for five thousandths of a second, 21 MiB of the reserve."""
    pause = pause_seconds(spare_mib * MIB, quiet=False, looking_seconds=0)
    assert pause * 4096 <= max(spare_mib, 21)
    assert 0.005 <= pause <= 1


def test_looking_takes_half_of_the_time_at_most_and_less_while_nothing_grows() -> None:
    assert pause_seconds(0, quiet=False, looking_seconds=0.5) == 0.5
    assert pause_seconds(0, quiet=True, looking_seconds=0) == 0.05
