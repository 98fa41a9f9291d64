"""Stops a process at SIGINT and SIGTERM."""

import asyncio
import signal


def stop_on_signals() -> asyncio.Event:
    """Returns an event that SIGINT or SIGTERM sets."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    return stop
