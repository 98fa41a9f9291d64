"""A builder that is told to end while it starts."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from moorage.engines.dockerd.attempt import Attempt
from moorage.engines.dockerd.buildx import Build
from moorage.engines.dockerd.firewall import ElsewhereGroup
from moorage.engines.engine import BuildSpec, Limits
from moorage.errors import DeployFailed, FailureCause
from moorage.planning.plan import Plan, Stack

DEAF_AT_FIRST = """#!/bin/sh
trap 'trap - TERM' TERM
touch {began}
while :; do sleep 0.1; done
"""


async def test_builder_without_room_ends_though_it_missed_the_first_signal(tmp_path: Path) -> None:
    builder, began = tmp_path / "docker", tmp_path / "began"
    builder.write_text(DEAF_AT_FIRST.format(began=began))
    builder.chmod(0o755)
    plan = Plan(
        stack=Stack.NODE,
        directory="",
        install=None,
        build=None,
        start="node index.js",
        port=3000,
        build_env={},
        run_env={},
        because=(),
    )
    spec = BuildSpec(
        deployment_id="starts",
        source=tmp_path,
        plan=plan,
        limits=Limits(memory_bytes=1 << 26, cpu_millis=1000, pids=8, disk_bytes=1 << 26),
        timeout_seconds=60,
    )

    async def log(_: Sequence[str]) -> None:
        pass

    build = Build(
        dockerfile=builder,
        context=tmp_path,
        image="starts",
        labels={},
        cgroup_parent="",
        cache_scope="starts",
    )
    attempt = Attempt(spec, log, ElsewhereGroup())
    with pytest.raises(DeployFailed) as failed:
        await attempt.run(build, {"PATH": f"{tmp_path}:/usr/bin:/bin"}, lambda: not began.exists())

    assert failed.value.cause is FailureCause.OUT_OF_DISK
