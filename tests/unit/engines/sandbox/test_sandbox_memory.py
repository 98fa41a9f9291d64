"""How the machine's memory is divided."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moorage.engines.host.cgroup import Division, Shares, divide, smaller_limit

GIB = 1 << 30
MEMINFO = "MemTotal:       24683700 kB\nMemFree:        22818000 kB\n"


def test_reserve_and_builds_are_taken_off_and_the_rest_is_the_apps() -> None:
    division = Division(reserve_bytes=GIB, builds_at_once=2, build_bytes=2 * GIB)
    assert divide(24 * GIB, division) == Shares(
        apps_bytes=19 * GIB, builds_bytes=4 * GIB, build_bytes=2 * GIB
    )


def test_builds_have_no_more_than_apps_where_there_is_little() -> None:
    division = Division(reserve_bytes=GIB, builds_at_once=2, build_bytes=2 * GIB)
    assert divide(3 * GIB, division) == Shares(
        apps_bytes=GIB, builds_bytes=GIB, build_bytes=GIB // 2
    )


def test_reserve_that_leaves_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="memory_reserve_mib of 1024 leaves nothing of 1024 MiB"):
        divide(GIB, Division(reserve_bytes=GIB))


@given(
    total=st.integers(2, 1 << 45),
    reserve=st.integers(0, 1 << 45),
    at_once=st.integers(1, 64),
    build=st.integers(1, 1 << 40),
)
def test_shares_never_promise_more_than_there_is(
    total: int, reserve: int, at_once: int, build: int
) -> None:
    division = Division(reserve_bytes=reserve, builds_at_once=at_once, build_bytes=build)
    if reserve >= total:
        return
    shares = divide(total, division)
    assert shares.apps_bytes + shares.builds_bytes + reserve == total
    assert shares.build_bytes * at_once <= shares.builds_bytes <= shares.apps_bytes


@pytest.mark.parametrize(
    ("limit", "available"),
    [
        ("", 24683700 * 1024),  # the topmost group of version 2 has none
        ("max\n", 24683700 * 1024),
        ("9223372036854771712\n", 24683700 * 1024),
        ("2147483648\n", 2147483648),
    ],
)
def test_container_has_no_more_than_its_limit(limit: str, available: int) -> None:
    assert smaller_limit(MEMINFO, limit) == available
