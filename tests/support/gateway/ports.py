"""Ports for what can't be told to take any free one."""

import secrets
import socket


def quiet_port(host: str = "127.0.0.1") -> int:
    """A TCP port of an own address that is free, and that nobody is given unasked in the meantime.

    It lies below those that the kernel chooses by itself (ip_local_port_range).
    """
    while True:
        port = 20_000 + secrets.randbelow(10_000)
        with socket.socket() as trying:
            try:
                trying.bind((host, port))
            except OSError:
                continue
            return port
