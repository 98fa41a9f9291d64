"""Limits of the gateway's own process, which what it starts inherits (getrlimit(2))."""

import resource


def forbid_core_dumps() -> None:
    """Forbids core dumps: they would hold keys and deployers' variables.

    The limit is one byte, not 0: then the kernel starts no `core_pattern` program either (core(5)).
    """
    _, hard = resource.getrlimit(resource.RLIMIT_CORE)
    if hard != 0:
        resource.setrlimit(resource.RLIMIT_CORE, (1, hard))


def raise_descriptor_limit() -> int:
    """Raises the limit of open files to its maximum; returns it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard
