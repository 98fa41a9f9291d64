"""Tells systemd how a service stands, without a library of its own (sd_notify(3))."""

import os
import socket


def notify(state: str) -> None:
    """Sends a state such as `READY=1` to the manager that started this process, if one did."""
    path = os.environ.get("NOTIFY_SOCKET", "")
    if not path:
        return
    address = f"\0{path[1:]}" if path.startswith("@") else path
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
        try:
            sender.sendto(state.encode(), address)
        except OSError:  # a manager that has gone away is told nothing
            return
