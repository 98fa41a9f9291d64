"""Python programs as processes of their own, forked off one that has imported the product.

A gateway's imports alone take a second of processor time, and the tests start hundreds.
"""

import gc
import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from multiprocessing import connection
from pathlib import Path

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(
    [
        "aiohttp.web",
        "cyclopts",
        "moorage.cli.connection",
        "moorage.cli.help",
        "moorage.cli.main",
        "moorage.cli.operator.gateway",
        "moorage.cli.operator.serve",
        "moorage.gateway.dev",
        "moorage.gateway.running",
        "moorage.operate.audit.report",
        "moorage.operate.check",
        "moorage.pages.operator.audits",
        "moorage.pages.operator.site",
        "pytest",
        "uvloop",
    ]
)


# A start looks at all earlier processes; whoever else looks at one then would miss how it ended.
_LOCK = threading.Lock()


class ForkedProgram:
    """A script that runs as if it had been executed; its output is appended to a file, or two.

    It has what tests use of `subprocess.Popen`. Its command line is that of the process that it
    was forked off.
    """

    def __init__(
        self,
        script: str,
        *arguments: str,
        cwd: Path,
        env: Mapping[str, str],
        output: Path,
        errors: Path | None = None,
    ) -> None:
        self._process = FORKS.Process(
            target=_execute,
            args=((script, *arguments), str(cwd), dict(env), (str(output), str(errors or output))),
            daemon=True,  # ended with the tests, if one forgot it
        )
        with _LOCK:
            self._process.start()

    @property
    def pid(self) -> int:
        """The process's id."""
        assert self._process.pid is not None
        return self._process.pid

    def poll(self) -> int | None:
        """Its exit status, negative for a signal; None while it runs."""
        with _LOCK:
            return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        """Its exit status, once it has ended. Raises TimeoutExpired after so many seconds."""
        connection.wait([self._process.sentinel], timeout)
        status = self.poll()
        if status is None:
            raise subprocess.TimeoutExpired(str(self._process.name), timeout or 0)
        return status

    def send_signal(self, number: signal.Signals) -> None:
        """Sends it a signal, if it runs."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """Ends it as a crash would."""
        self.send_signal(signal.SIGKILL)


def run(
    script: str, *arguments: str, cwd: Path, env: Mapping[str, str]
) -> "subprocess.CompletedProcess[str]":
    """Runs a script to its end; what it printed and how it ended."""
    with tempfile.TemporaryDirectory() as directory:
        output, errors = Path(directory, "output"), Path(directory, "errors")
        program = ForkedProgram(script, *arguments, cwd=cwd, env=env, output=output, errors=errors)
        status = program.wait()
        words = (script, *arguments)
        return subprocess.CompletedProcess(words, status, output.read_text(), errors.read_text())


def _execute(argv: Sequence[str], cwd: str, env: dict[str, str], files: tuple[str, str]) -> None:
    gc.freeze()  # what it was forked with; else it would be looked through, and copied by that
    with Path(os.devnull).open("rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    for descriptor, name in enumerate(files, start=1):
        with Path(name).open("ab") as file:
            os.dup2(file.fileno(), descriptor)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    sys.argv = list(argv)
    runpy.run_path(argv[0], run_name="__main__")
