"""What is started without a port to be found: commands beside an app, and workers."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from moorage.engines.engine import AppExit, Engine, InstanceSpec, Keep, log_tail
from moorage.records.deployment import LogKind
from support.engines.small_apps import LIMITS, MIB, OWN, build, fetch, plan, processes, start
from support.gateway.waiting import until, until_read

pytestmark = [pytest.mark.root, pytest.mark.spread("runtime")]

COMMAND = InstanceSpec(deployment_id="first", plan=plan(), limits=LIMITS, listens=False)


async def exit_of(runtime: Engine) -> AppExit:
    async def ended() -> AppExit | None:
        return (await runtime.inspect("first")).exit

    found = await until_read(ended, lambda it: it is not None)
    assert found is not None
    return found


async def test_command_runs_in_place_of_the_app_and_its_end_is_known(
    runtime: Engine, source: Path
) -> None:
    await build(runtime, source, plan())
    spec = replace(COMMAND, command="echo $SECRET-$AT_RUN; pwd; ls; exit 7", log=LogKind.BUILD)
    begun = await runtime.start(replace(spec, variables={"SECRET": "s"}), timeout_seconds=30)
    assert (begun.address, begun.port) == (None, None)
    assert await exit_of(runtime) == AppExit(exit_code=7, out_of_memory=False)
    assert "s-yes\n/app\nindex.js\n" in await log_tail(runtime, "first", LogKind.BUILD)
    assert await log_tail(runtime, "first", LogKind.RUNTIME) == ""
    assert await runtime.running() == {}
    await runtime.stop("first")
    assert await exit_of(runtime) == AppExit(exit_code=7, out_of_memory=False)


async def test_app_starts_after_a_command_with_what_that_left_on_the_volume(
    runtime: Engine, source: Path
) -> None:
    (source / "index.js").write_text(
        "require('http').createServer((_, answer) =>"
        " answer.end(require('fs').readFileSync('/data/it'))).listen(process.env.PORT);"
    )
    await build(runtime, source, plan())
    limits = replace(LIMITS, volume_bytes=32 * MIB)
    spec = replace(COMMAND, command="echo kept > /data/it", limits=limits, volume="data")
    await runtime.start(spec, timeout_seconds=30)
    assert await exit_of(runtime) == AppExit(exit_code=0, out_of_memory=False)
    await runtime.stop("first")
    app = await runtime.start(replace(spec, command="", listens=True), timeout_seconds=30)
    assert await fetch(app.address) == "kept\n"
    assert await runtime.running() == {"first": app}


@pytest.mark.parametrize(
    "left",
    [
        "sleep 600 &",
        "setsid sh -c 'trap \"\" TERM HUP; sleep 600; :' </dev/null >/dev/null 2>&1 &",
        "(sleep 600 & sleep 600 &) & sleep 0.2;",
    ],
)
async def test_what_a_command_leaves_behind_ends_with_it(
    runtime: Engine, source: Path, left: str
) -> None:
    await build(runtime, source, plan())
    spec = replace(COMMAND, command=f"{left.replace('600', f'600.{OWN}')} exit 3")
    await runtime.start(spec, timeout_seconds=30)
    assert await exit_of(runtime) == AppExit(exit_code=3, out_of_memory=False)
    assert processes(f"sleep 600.{OWN}") == []
    again = await runtime.start(replace(spec, command="sleep 60"), timeout_seconds=30)
    assert await runtime.running() == {"first": again}


async def test_end_of_a_command_is_known_as_soon_as_it_has_ended(
    runtime: Engine, source: Path
) -> None:
    await build(runtime, source, plan())
    for _ in range(30):
        await runtime.start(replace(COMMAND, command="true"), timeout_seconds=30)
        assert await exit_of(runtime) == AppExit(exit_code=0, out_of_memory=False)
        await runtime.stop("first")


async def test_command_that_needs_too_much_memory_is_told_so(runtime: Engine, source: Path) -> None:
    grow = "const kept = []; for (;;) kept.push(Buffer.alloc(1e7, 1));"
    await build(runtime, source, plan())
    await runtime.start(replace(COMMAND, command=f'node -e "{grow}"'), timeout_seconds=30)
    assert (await exit_of(runtime)).out_of_memory


async def test_stop_ends_a_command(runtime: Engine, source: Path) -> None:
    await build(runtime, source, plan())
    spec = replace(COMMAND, command=f"trap 'exit 5' TERM; sleep 60 & wait; : 7c20aa{OWN}")
    begun = await runtime.start(spec, timeout_seconds=30)
    assert await runtime.running() == {"first": begun}
    assert (await runtime.inspect("first")).instance == begun
    await runtime.stop("first", keep=Keep.LOGS)
    assert await runtime.running() == {}
    assert processes(f"7c20aa{OWN}") == []


async def test_worker_runs_without_a_port_and_is_started_again(
    runtime: Engine, source: Path
) -> None:
    (source / "index.js").write_text("console.log('works'); setInterval(() => {}, 1000);")
    await build(runtime, source, plan())
    for times in (1, 2):
        worker = await runtime.start(COMMAND, timeout_seconds=30)
        assert worker == await runtime.start(COMMAND, timeout_seconds=30)

        async def has_said(times: int = times) -> bool:
            return (await log_tail(runtime, "first", LogKind.RUNTIME)).count("works") == times

        await until(has_said)
        assert await runtime.running() == {"first": worker}
        assert await runtime.connections("first") in (0, None)
        await runtime.stop("first")


async def test_commands_beside_an_app_are_deployments_of_their_own(
    runtime: Engine, source: Path
) -> None:
    await build(runtime, source, plan())
    app = await start(runtime, plan())
    await runtime.copy("first", "second")
    spec = replace(COMMAND, deployment_id="second", command="sleep 60")
    beside = await runtime.start(spec, timeout_seconds=30)
    assert await runtime.running() == {"first": app, "second": beside}
    await asyncio.gather(runtime.stop("second", keep=Keep.NOTHING), fetch(app.address))
    assert await runtime.running() == {"first": app}
