"""Run the benchmarks, all of them or those that are named, and write RESULTS.md part by part.

bench/run.py [deploying] [containers] [cluster] [redeploying] [status] [unpaid] [paid] [upload]
    [idle] [waking] [sleeping] [proxying] [watcher] [metering] [planning] [cli] [starting] [sharing]
    [keeping] [capacity] [pages] [working]
"""

import os
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.append(str(HERE.parent / "tests"))  # how the tests drive a gateway

import capacity  # noqa: E402
import cli  # noqa: E402
import cluster  # noqa: E402
import containers  # noqa: E402
import deploying  # noqa: E402
import idle  # noqa: E402
import keeping  # noqa: E402
import metering  # noqa: E402
import pages  # noqa: E402
import paid  # noqa: E402
import planning  # noqa: E402
import proxying  # noqa: E402
import redeploying  # noqa: E402
import sharing  # noqa: E402
import sleeping  # noqa: E402
import starting  # noqa: E402
import status  # noqa: E402
import unpaid  # noqa: E402
import upload  # noqa: E402
import waking  # noqa: E402
import watcher  # noqa: E402
import working  # noqa: E402
from measure import Row, machine, table  # noqa: E402

BENCHMARKS = {
    "deploying": deploying.run,
    "containers": containers.run,
    "cluster": cluster.run,
    "redeploying": redeploying.run,
    "status": status.run,
    "unpaid": unpaid.run,
    "paid": paid.run,
    "upload": upload.run,
    "idle": idle.run,
    "waking": waking.run,
    "working": working.run,
    "sleeping": sleeping.run,
    "proxying": proxying.run,
    "watcher": watcher.run,
    "metering": metering.run,
    "planning": planning.run,
    "cli": cli.run,
    "starting": starting.run,
    "sharing": sharing.run,
    "capacity": capacity.run,
    "pages": pages.run,
    "keeping": keeping.run,
}
RESULTS = HERE / "RESULTS.md"

_TITLE = "# Results\n\nWritten by `make bench`; README.md beside it says how it is measured."
_OTHER_WORK = "above 2 or so, other work took turns on these cores, and every figure is the worse"


def main(names: list[str]) -> None:
    """Run, and write what was measured into its part of the report as soon as it is known."""
    unknown = set(names) - set(BENCHMARKS)
    if unknown:
        sys.exit(f"no such benchmark: {', '.join(sorted(unknown))}; there are {list(BENCHMARKS)}")
    for name in names or BENCHMARKS:
        print(f"{name} ...", flush=True)
        begun = os.getloadavg()[0]
        part = _part(BENCHMARKS[name](), begun)
        _write(_parts(RESULTS.read_text()) | {name: part})
        print(f"\n{part}\n", flush=True)


def _write(parts: dict[str, str]) -> None:
    ordered = (f"## {name}\n\n{parts[name]}" for name in BENCHMARKS if name in parts)
    RESULTS.write_text("\n\n".join([_TITLE, *ordered]) + "\n")


def _part(rows: list[Row], begun: float) -> str:
    load = f"load {begun:.1f} before, {os.getloadavg()[0]:.1f} after; {_OTHER_WORK}"
    return f"{machine()}\n- {load}\n\n{table(rows)}"


def _parts(report: str) -> dict[str, str]:
    """The report's parts by their names."""
    _, *parts = report.split("\n## ")
    return {name: part.strip() for name, _, part in (each.partition("\n") for each in parts)}


if __name__ == "__main__":
    main(sys.argv[1:])
