"""The figures of docs/run/capacity.md are those that were measured, or follow from the code."""

import re
from pathlib import Path

from moorage.engines.host.cgroup import Division, divide
from moorage.settings import Settings

REPOSITORY = Path(__file__).parents[2]
PAGE = (REPOSITORY / "docs" / "run" / "capacity.md").read_text()
MEASURED = (REPOSITORY / "bench" / "RESULTS.md").read_text().partition("## capacity\n")[2]
MIB = 1024 * 1024


def test_measured_points_are_those_of_the_benchmark() -> None:
    rows = re.findall(
        r"^\| ([\d,]+) projects, books in (.+?) \| (\d+) µs a poll, (\d+) µs a 402 \|"
        r".*?at rest ([\d.]+) % of a core, (\d+) MiB; starts in ([\d.]+) s \|$",
        MEASURED.partition("\n## ")[0],
        re.MULTILINE,
    )
    assert rows
    for projects, where, poll, demand, rest, memory, start in rows:
        assert (
            f"| {projects}, {where} | {poll} µs | {demand} µs | {rest} % of a core | {memory} MiB |"
            f" {start} s |"
        ) in PAGE


def test_apps_that_memory_allows_are_those_that_the_gateway_admits() -> None:
    settings = Settings()
    division = Division(
        reserve_bytes=settings.memory_reserve_mib * MIB,
        builds_at_once=settings.builds_at_once,
        build_bytes=settings.build_memory_mib * MIB,
    )
    rows = re.findall(r"^\| (\d+) GiB \| (\d+) \|$", PAGE, re.MULTILINE)
    assert rows
    for gib, apps in rows:
        promised = settings.memory_overcommit * divide(int(gib) * 1024 * MIB, division).apps_bytes
        assert int(promised // (settings.app_memory_mib * MIB)) == int(apps)
