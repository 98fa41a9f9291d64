"""What the kernel says of a container's control group, in either version of cgroups."""

from pathlib import Path

_TOP = Path("/sys/fs/cgroup")
_UNIFIED = (_TOP / "cgroup.controllers").exists()


def out_of_memory(group: str) -> bool:
    """Whether the kernel has killed a process of it for its memory."""
    name = "memory.events" if _UNIFIED else "memory.oom_control"
    return _entries(_file("memory", group, name)).get("oom_kill", 0) > 0


def working_set_bytes(group: str) -> int:
    """Its memory without the cached files that the kernel would drop first."""
    used = int(_file("memory", group, _either("memory.current", "memory.usage_in_bytes")) or 0)
    stat = _entries(_file("memory", group, "memory.stat"))
    return max(used - stat.get(_either("inactive_file", "total_inactive_file"), 0), 0)


def cpu_ns(group: str) -> int:
    """The processor time that it has used."""
    if _UNIFIED:
        return _entries(_file("cpu", group, "cpu.stat")).get("usage_usec", 0) * 1000
    return int(_file("cpuacct", group, "cpuacct.usage") or 0)


def _either(unified: str, legacy: str) -> str:
    return unified if _UNIFIED else legacy


def _file(controller: str, group: str, name: str) -> str:
    """Its content; empty if the group has gone."""
    top = _TOP if _UNIFIED else _TOP / controller
    try:
        return (top / group.strip("/") / name).read_text()
    except FileNotFoundError:
        return ""


def _entries(text: str) -> dict[str, int]:
    lines = [line.split() for line in text.splitlines()]
    return {line[0]: int(line[1]) for line in lines if len(line) == 2}
