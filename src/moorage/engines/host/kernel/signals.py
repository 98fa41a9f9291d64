"""Asks an app's processes to end."""

import os
import signal
from pathlib import Path

_WRAPPERS = frozenset({"sh", "bash", "dash", "bwrap", "docker-init", "tini"})


def ask_to_end(pids: list[int]) -> None:
    """Sends SIGTERM to an app's processes, but to shells only if there is nothing else.

    A shell would end at once, and its program be killed with it.
    """
    for pid in _targets(pids):
        try:
            os.kill(pid, signal.SIGTERM)
        except ProcessLookupError:
            continue


def _targets(pids: list[int]) -> list[int]:
    names = {}
    for pid in pids:
        try:
            # An app may name its processes with any bytes, which the kernel cuts anywhere.
            names[pid] = Path(f"/proc/{pid}/comm").read_text(errors="replace").strip()
        except (FileNotFoundError, ProcessLookupError):
            continue
    return [pid for pid, name in names.items() if name not in _WRAPPERS] or list(names)
