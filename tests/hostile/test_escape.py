"""Uploaded code can't get out: every threat of the table, by a running app and by a build.

Each is first shown to succeed outside the sandbox, as root on the same made-up host. Inside it
must fail, and for the reason that the table expects.
"""

import asyncio
import contextlib
import json
import os
import shlex
import shutil
import subprocess
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import arena
import pytest
import pytest_asyncio
from apps import (
    PATIENCE_SECONDS,
    Deployer,
    add_privileged_programs,
    ask,
    attempts,
    attempts_by_build,
    plan,
    upload,
)
from threats import ALLOWED, TERMINAL, THREATS, Threat

from conftest import GATEWAY_SECRET, Host
from moorage.engines.engine import Instance

pytestmark = pytest.mark.root

HOST_SECRET = "host-secret-52c9"
NEIGHBOUR_SECRET = "neighbour-secret-77e0"
INTERPRETERS = {".py": arena.PYTHON, ".js": "node"}
EVERYTHING = (*THREATS, *ALLOWED)


@dataclass
class Stage:
    """Where every attempt was or can be made."""

    source: Path
    outside_facts: dict[str, str]
    inside: dict[str, dict[str, dict[str, Any]]]  # by phase and threat
    seen: dict[str, dict[str, Any]] = field(default_factory=dict)

    def outside(self, threat: Threat) -> dict[str, Any]:
        """The threat's result outside the sandbox."""
        if threat.name not in self.seen:
            self.seen[threat.name] = self._attempt(threat)
        return self.seen[threat.name]

    def _attempt(self, threat: Threat) -> dict[str, Any]:
        program, *args = filled(threat.run, self.outside_facts)
        interpreter = INTERPRETERS[Path(program).suffix]
        argv = [interpreter, str(self.source / "attacks" / program), *args]
        if threat.outside == TERMINAL:
            argv = ["script", "-qec", shlex.join(argv), "/dev/null"]
        else:
            argv = [*filled(threat.outside, self.outside_facts), *argv]
        environment = {**os.environ, "ATTEMPT_SECONDS": "30"}
        done = subprocess.run(
            argv, capture_output=True, env=environment, timeout=PATIENCE_SECONDS, check=False
        )
        lines = done.stdout.decode().strip().splitlines()
        assert lines, f"{shlex.join(argv)} printed nothing but {done.stderr.decode()}"
        # A terminal may echo what was typed into it before the line.
        result: dict[str, Any] = json.loads(lines[-1][lines[-1].index("{") :])
        return result


def filled(parts: tuple[str, ...], facts: dict[str, str]) -> list[str]:
    """A command line with its facts filled in."""
    return [part.format_map(facts) for part in parts]


def everything(facts: dict[str, str], *, scratch: str) -> list[list[str]]:
    """The command line of every attempt."""
    return [filled(threat.run, {**facts, "scratch": scratch}) for threat in EVERYTHING]


def shared_facts(host: Host, victim: arena.Victim, memory_key: int) -> dict[str, str]:
    """What a command line says alike outside and inside."""
    return {
        **host.facts,
        **arena.FORBIDDEN,
        **arena.FORBIDDEN6,
        "public": arena.PUBLIC_ADDRESS,
        "host": arena.HOST_ADDRESS,
        "host6": arena.HOST_ADDRESS6,
        "state": str(host.state),
        "database": str(host.state / "moorage.db"),
        "run": str(host.run),
        "secret_path": str(host.directory / "secret"),
        "host_secret": HOST_SECRET,
        "host_secret_backwards": HOST_SECRET[::-1],
        "gateway_secret_backwards": GATEWAY_SECRET[::-1],
        "neighbour_secret": NEIGHBOUR_SECRET,
        "neighbour_secret_backwards": NEIGHBOUR_SECRET[::-1],
        "victim": victim.pid,
        "victim_address": str(victim.address),
        "shared_memory": str(memory_key),
        "chroot_evidence": str(host.directory / "secret"),
    }


async def neighbour_facts(host: Host, neighbour: Instance) -> dict[str, str]:
    """What a neighbour has, and where the host sees it."""
    me = await ask(neighbour)
    assert me["secret"] == NEIGHBOUR_SECRET
    found = host.run.rglob("secret.txt")
    paths = [path for path in found if NEIGHBOUR_SECRET in path.read_text()]
    return {
        "neighbour": me["address"],
        "neighbour_abstract": f"@{me['abstract']}",
        "neighbour_door": str(neighbour.address),
        "neighbour_secret_path": str(paths[0]),
        "neighbour_pid": host_pid_of(me["uid"]),
    }


def host_pid_of(uid: int) -> str:
    """A process of the hostile app that runs as `uid`, as the host numbers it."""
    for directory in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # others come and go
            cmdline = (directory / "cmdline").read_bytes()
            if directory.stat().st_uid == uid and b"\0attacks/hostile_app.py" in cmdline:
                return directory.name
    raise AssertionError(f"no process runs as {uid}")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(host: Host, deployer: Deployer) -> AsyncIterator[Stage]:
    """Every attempt made inside, by an app and by a build; and the facts to make it outside."""
    for path in (host.directory / "secret", host.state / "moorage.db"):
        path.unlink(missing_ok=True)
        path.write_text(HOST_SECRET)
        path.chmod(0o600)
    source = upload(host.new_directory("source"), own="own")
    add_privileged_programs(source)
    next_door = upload(host.new_directory("next-door"), secret=NEIGHBOUR_SECRET)
    neighbour = await deployer.deploy("neighbour", next_door, plan())
    shutil.rmtree(next_door)
    scratch = host.new_directory("scratch")
    with arena.victim(HOST_SECRET, 0) as victim, arena.shared_memory() as memory_key:
        facts = {
            **shared_facts(host, victim, memory_key),
            **await neighbour_facts(host, neighbour),
        }
        app = await deployer.deploy("attacker", source, plan())
        facts["door"] = str(app.address)
        inside_facts = {
            **facts,
            "app": "/app",
            "root": "/",
            "system_file": "/usr/bin/env",
            "gateway": "gateway",
            "gateway_or_host": "gateway",
            "first_process": "1",
        }
        by_app, by_build = await asyncio.gather(
            attempts(app, everything(inside_facts, scratch="/tmp")),
            attempts_by_build(deployer, source, everything(inside_facts, scratch="/app")),
        )
        outside_facts = {
            **facts,
            "app": str(source),
            "first_process": victim.pid,
            "root": str(host.directory),
            "scratch": str(scratch),
            # Beside it: /tmp may be a file system of its own, which no link leaves.
            "system_file": str(host.directory / "secret"),
            "gateway": (await ask(app))["gateway"],
            # A datagram from this address to itself is masqueraded, and its answer lost.
            "gateway_or_host": arena.HOST_ADDRESS,
        }
        names = [t.name for t in EVERYTHING]
        inside = {
            "app": dict(zip(names, by_app, strict=True)),
            "build": dict(zip(names, by_build, strict=True)),
        }
        yield Stage(source, outside_facts, inside)


@pytest.mark.parametrize("phase", ["app", "build"])
@pytest.mark.parametrize("threat", THREATS, ids=lambda t: t.name)
def test_possible_outside_fails_inside(stage: Stage, threat: Threat, phase: str) -> None:
    outside = stage.outside(threat)
    assert outside["succeeded"], f"proves nothing: outside it failed by {outside['detail']}"
    inside = stage.inside[phase][threat.name]
    assert not inside["succeeded"], f"got out: {inside['detail']}"
    assert inside["detail"] in threat.refused


@pytest.mark.parametrize("phase", ["app", "build"])
@pytest.mark.parametrize("allowed", ALLOWED, ids=lambda t: t.name)
def test_apps_can_do_what_they_may(stage: Stage, allowed: Threat, phase: str) -> None:
    inside = stage.inside[phase][allowed.name]
    assert inside["succeeded"], inside["detail"]
