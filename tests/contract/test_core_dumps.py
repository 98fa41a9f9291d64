"""A crashing app starts no program of the host's, whatever its core_pattern says."""

import pytest

from moorage.engines.engine import BuildSpec, Limits, log_tail
from moorage.engines.sandbox.sandbox import Sandbox
from moorage.planning.plan import Plan, Stack
from moorage.records.deployment import LogKind

pytestmark = pytest.mark.root


async def test_core_limit_is_the_one_byte_that_stops_piped_core_handlers(
    sandbox: Sandbox, tmp_path_factory: pytest.TempPathFactory
) -> None:
    source = tmp_path_factory.mktemp("source")
    (source / "index.html").write_text("x")
    plan = Plan(
        stack=Stack.CUSTOM,
        directory="",
        install="grep core /proc/self/limits",
        build=None,
        start="true",
        port=3000,
        build_env={},
        run_env={},
        because=(),
    )
    limits = Limits(memory_bytes=2**28, cpu_millis=1000, pids=64, disk_bytes=2**27)
    spec = BuildSpec(
        deployment_id="core", source=source, plan=plan, limits=limits, timeout_seconds=30
    )

    await sandbox.build(spec)

    said = await log_tail(sandbox, "core", LogKind.BUILD)
    line = next(line for line in said.splitlines() if line.startswith("Max core file size"))
    assert line.split()[4:6] == ["1", "1"]  # core(5): RLIMIT_CORE 1 skips a piped core_pattern
