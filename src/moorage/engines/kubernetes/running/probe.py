"""Looks from inside a pod at what it could do; prints that as JSON.

Runs in the self-test's pod, in Moorage's image, and uses only the standard library.
"""

import json
import os
import socket
import sys
import time
from pathlib import Path

METADATA = ("169.254.169.254", 80)
_ACCOUNT = Path("/var/run/secrets/kubernetes.io")
_CONNECT_SECONDS = 2.0
_PATIENCE_SECONDS = 15.0  # policies of the network may take effect a moment after a pod's start
_STATUS = ("CapEff", "CapBnd", "NoNewPrivs", "Seccomp")


def main() -> None:
    """Prints what was found."""
    sys.stdout.write(json.dumps(findings()) + "\n")


def findings() -> dict[str, object]:
    """Returns what the pod can do, by name."""
    lines = Path("/proc/self/status").read_text().splitlines()
    status = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
    return {
        "uid": os.getuid(),
        "has_token": _ACCOUNT.exists(),
        "writes_root": os.access("/", os.W_OK),
        "kernel": os.uname().release,
        "reached": sorted(f"{host}:{port}" for host, port in targets() if _stays_open(host, port)),
        **{name: status.get(name, "").strip() for name in _STATUS},
    }


def targets() -> set[tuple[str, int]]:
    """Returns what no app may reach: the cluster's API, and the cloud's metadata."""
    server = os.environ.get("KUBERNETES_SERVICE_HOST")
    found = {METADATA}
    if server:
        found.add((server, int(os.environ.get("KUBERNETES_SERVICE_PORT", "443"))))
    return found


def _stays_open(host: str, port: int) -> bool:
    """Returns whether something answers there, and keeps doing so."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while True:
        try:
            socket.create_connection((host, port), timeout=_CONNECT_SECONDS).close()
        except OSError:
            return False
        if time.monotonic() > deadline:
            return True
        time.sleep(1.0)


if __name__ == "__main__":
    main()
