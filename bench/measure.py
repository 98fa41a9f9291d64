"""What every benchmark measures with: processor time, memory, medians, and a table to report in."""

import contextlib
import os
import platform
import statistics
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

SERVER_CPU = min(os.sched_getaffinity(0))
LOAD_CPU = max(os.sched_getaffinity(0))
MIB = 1024 * 1024

_TICK = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Row:
    """One line of the report. `met` is None for a figure that has no target."""

    subject: str
    measured: str
    target: str = ""
    met: bool | None = None
    note: str = ""

    @property
    def cells(self) -> tuple[str, ...]:
        """As the table shows it."""
        verdict = {None: "", True: "yes", False: "**no**"}[self.met]
        return self.subject, self.measured, self.target, verdict, self.note


def table(rows: Sequence[Row]) -> str:
    """The rows in Markdown."""
    lines = [("", "measured", "target", "met", "how"), ("---",) * 5, *(row.cells for row in rows)]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


@contextlib.contextmanager
def on_cpu(number: int) -> Iterator[None]:
    """Run this thread, and what it starts meanwhile, on one core."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {number})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def cpu_seconds(pid: int, *, children: bool = False) -> float:
    """Processor time of a process, all its threads; with `children`, of those it has buried too."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    return sum(map(int, fields[11 : 15 if children else 13])) / _TICK


def cpu_seconds_of_children(pid: int, program: bytes) -> float:
    """Processor time of a process's children of that program, and of all that it has buried."""
    buried = cpu_seconds(pid, children=True) - cpu_seconds(pid)
    return buried + sum(cpu_seconds(child) for child in _children(pid) if _runs(child, program))


def _children(pid: int) -> Iterator[int]:
    for file in Path(f"/proc/{pid}/task").glob("*/children"):
        yield from map(int, file.read_text().split())


def _runs(pid: int, program: bytes) -> bool:
    return program in Path(f"/proc/{pid}/cmdline").read_bytes()


def resident_bytes(pid: int) -> int:
    """Memory of a process that is resident now."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE_BYTES


def forget_peak(pid: int) -> None:
    """Start `peak_bytes` again from now."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def peak_bytes(pid: int) -> int:
    """The most memory of a process that was resident since `forget_peak`."""
    return _kib(Path(f"/proc/{pid}/status"), "VmHWM") * 1024


def proportional_bytes(pid: int) -> int:
    """Memory of a process, shared pages divided among those who share them."""
    return _kib(Path(f"/proc/{pid}/smaps_rollup"), "Pss") * 1024


def _kib(file: Path, field: str) -> int:
    for line in file.read_text().splitlines():
        name, _, value = line.partition(":")
        if name == field:
            return int(value.split()[0])
    raise LookupError(f"{file} has no {field}")


def median(values: Sequence[float]) -> float:
    """The middle one."""
    return statistics.median(values)


def spread(values: Sequence[float], digits: int = 0) -> str:
    """How far the rounds of a measurement lie apart."""
    return f"{len(values)} rounds, {min(values):,.{digits}f}–{max(values):,.{digits}f}"


def machine() -> str:
    """Where this was measured, with nothing that names the machine."""
    node = subprocess.run(["node", "--version"], capture_output=True, text=True, check=False)
    with Path("/proc/meminfo").open() as meminfo:
        memory_gib = int(meminfo.readline().split()[1]) / MIB
    return "\n".join(
        f"- {fact}"
        for fact in (
            f"{datetime.now(UTC):%Y-%m-%d}",
            f"{len(os.sched_getaffinity(0))} cores ({_processor()}), {memory_gib:.0f} GiB",
            f"{platform.system()} {platform.release().partition('-')[0]} {platform.machine()}",
            f"Python {platform.python_version()}, Node {node.stdout.strip().lstrip('v')}",
        )
    )


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return "unknown processor"
