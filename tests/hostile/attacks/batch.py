"""Runs many attempts and prints a JSON line for each: `batch.py FILE`.

FILE holds a JSON list of command lines, each beginning with a program of this directory. An
attempt that is killed or hangs is a failed one, and says so.
"""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
AT_ONCE = 6
TIMEOUT_SECONDS = 60

INTERPRETERS = {".py": "python3", ".js": "node"}


def run(command: list[str]) -> dict[str, Any]:
    """One attempt's result."""
    program, *args = command
    argv = [INTERPRETERS[Path(program).suffix], str(HERE / program), *args]
    try:
        # Inherited descriptors stay open for the attempt, which looks for ways out among them.
        done = subprocess.run(
            argv,
            stdout=subprocess.PIPE,
            close_fds=False,
            timeout=TIMEOUT_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return {"command": command, "succeeded": False, "detail": "hung"}
    lines = done.stdout.decode(errors="replace").strip().splitlines()
    if done.returncode < 0:
        detail = f"killed by {signal.Signals(-done.returncode).name}"
        return {"command": command, "succeeded": False, "detail": detail}
    if not lines:
        return {"command": command, "succeeded": False, "detail": f"exit {done.returncode}"}
    return {**json.loads(lines[-1]), "command": command}


def results(commands: list[list[str]]) -> Iterator[dict[str, Any]]:
    """Every attempt's result, in order."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        yield from pool.map(run, commands)


def main() -> None:
    """Run the attempts of the file that the command line names."""
    file = Path(sys.argv[1])
    commands = json.loads(file.read_text())
    file.unlink()  # it holds the secrets that attempts search for
    for result in results(commands):
        print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
