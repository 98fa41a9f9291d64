"""Run the benchmarks: all of them, and write RESULTS.md, or those that are named.

bench/run.py [deploying] [redeploying] [status] [unpaid] [paid] [upload] [idle] [waking] [sleeping]
    [proxying] [watcher] [metering] [planning]
"""

import os
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.append(str(HERE.parent / "tests"))  # how the tests drive a gateway

import deploying  # noqa: E402
import idle  # noqa: E402
import metering  # noqa: E402
import paid  # noqa: E402
import planning  # noqa: E402
import proxying  # noqa: E402
import redeploying  # noqa: E402
import sleeping  # noqa: E402
import status  # noqa: E402
import unpaid  # noqa: E402
import upload  # noqa: E402
import waking  # noqa: E402
import watcher  # noqa: E402
from measure import Row, machine, table  # noqa: E402

BENCHMARKS = {
    "deploying": deploying.run,
    "redeploying": redeploying.run,
    "status": status.run,
    "unpaid": unpaid.run,
    "paid": paid.run,
    "upload": upload.run,
    "idle": idle.run,
    "waking": waking.run,
    "sleeping": sleeping.run,
    "proxying": proxying.run,
    "watcher": watcher.run,
    "metering": metering.run,
    "planning": planning.run,
}
RESULTS = HERE / "RESULTS.md"

_OTHER_WORK = "above 2 or so, other work took turns on these cores, and every figure is the worse"


def main(names: list[str]) -> None:
    """Run, print, and when nothing was left out, write."""
    unknown = set(names) - set(BENCHMARKS)
    if unknown:
        sys.exit(f"no such benchmark: {', '.join(sorted(unknown))}; there are {list(BENCHMARKS)}")
    where = machine()
    rows: list[Row] = []
    for name, run in BENCHMARKS.items():
        if not names or name in names:
            print(f"{name} ...", flush=True)
            rows += run()
    where += f"\n- load when it ended: {os.getloadavg()[0]:.1f}; {_OTHER_WORK}"
    print(f"\n{where}\n\n{table(rows)}")
    if not names:
        RESULTS.write_text(_report(where, rows))
        print(f"\nWritten to {RESULTS.relative_to(HERE.parent)}.")


def _report(where: str, rows: list[Row]) -> str:
    written = "Written by `make bench`; README.md beside it says how it is measured."
    return f"# Results\n\n{written}\n\n{where}\n\n{table(rows)}\n"


if __name__ == "__main__":
    main(sys.argv[1:])
