"""How long the command line takes to start, in processes of their own."""

import statistics
import subprocess
import sys
import time

from measure import Row

TIMES = 20
TARGET_MS = 150


def run() -> list[Row]:
    """Measure importing it, and an overview."""
    program = [sys.executable, "-c"]
    bare = _median_ms([*program, "pass"])
    rows = []
    for subject, code in (
        ("import the command line", "import moorage.cli.main"),
        ("import what `deploy` runs", "import moorage.cli.deploy"),
    ):
        took = _median_ms([*program, code]) - bare
        note = f"median of {TIMES}, beyond Python's own {bare:.0f} ms"
        is_target = subject == "import the command line"
        rows.append(
            Row(
                subject,
                f"{took:.0f} ms",
                f"{TARGET_MS} ms" if is_target else "",
                took < TARGET_MS if is_target else None,
                note,
            )
        )
    return rows


def _median_ms(command: list[str]) -> float:
    return statistics.median(_once_ms(command) for _ in range(TIMES))


def _once_ms(command: list[str]) -> float:
    begun = time.perf_counter()
    subprocess.run(command, check=True)
    return (time.perf_counter() - begun) * 1000
