"""Logs of real builds and apps: whose line, when, and that none is lost, whatever dies."""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from moorage.engines.engine import Instance, Keep, LogLine
from moorage.engines.logs.store import CAP_BYTES, LINE_BYTES
from moorage.engines.sandbox.sandbox import Sandbox
from moorage.errors import DeployFailed
from moorage.records.deployment import LogKind, LogStream
from support.engines.remains import processes_saying
from support.engines.sandbox_fixture import make_sandbox
from support.engines.small_apps import ON_PORT, SERVER, build, build_and_start, fetch, plan, start
from support.gateway.waiting import until, until_read

pytestmark = pytest.mark.root

BUILD, RUNTIME = LogKind.BUILD, LogKind.RUNTIME
OUT, ERR, GATEWAY = LogStream.OUT, LogStream.ERR, LogStream.GATEWAY

COUNTER = (
    "let count = 0;\n"
    "setInterval(() => { for (let i = 0; i < 20; i++) console.log(`n ${count++}`); }, 10);\n"
    + ON_PORT
)
FLOODER = """\
import os, threading
from http.server import BaseHTTPRequestHandler, HTTPServer
class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers(); self.wfile.write(b"fine")
    def log_message(self, *_): pass
def flood():
    while True: os.write(1, b"flood " * 10_000)
threading.Thread(target=flood, daemon=True).start()
HTTPServer(("", 3000), Handler).serve_forever()
"""


async def lines(
    runtime: Sandbox, kind: LogKind = RUNTIME, deployment_id: str = "first"
) -> list[LogLine]:
    """The whole log, page by page."""
    found: list[LogLine] = []
    after = 0
    while (page := await runtime.read_log(deployment_id, kind, after=after)).lines:
        found += page.lines
        after = page.next
    return found


async def counted(runtime: Sandbox) -> list[int]:
    return [int(line.text[2:]) for line in await lines(runtime) if line.text.startswith("n ")]


def collector(state_dir: Path) -> int:
    """The process that collects for the sandbox with this state."""
    (found,) = processes_saying(str(state_dir)) & processes_saying("logs.collector")
    return found


def is_stopped(pid: int) -> bool:
    """Whether a process that was sent SIGSTOP has come to its halt."""
    return (
        Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[0] == "T"
    )


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def bytes_in(log: Path) -> int:
    """What a log takes on disk; segments of it are dropped meanwhile."""
    sizes = [0]
    for path in log.iterdir():
        with contextlib.suppress(FileNotFoundError):
            sizes.append(path.stat().st_size)
    return sum(sizes)


async def test_streams_are_apart_and_each_line_has_its_time(sandbox: Sandbox, source: Path) -> None:
    (source / "index.js").write_text(
        "console.log('to out'); console.error('to err');\n"
        + SERVER.replace("response.end", "console.log('later') || response.end")
        % "process.env.PORT"
    )
    before_ms = now_ms()
    instance = await build_and_start(sandbox, source, plan())
    await until_read(lambda: lines(sandbox), lambda found: len(found) == 2)
    between_ms = now_ms()
    await fetch(instance.address)
    await until_read(lambda: lines(sandbox), lambda found: len(found) == 3)
    by_text = {line.text: line for line in await lines(sandbox)}
    assert {text: line.stream for text, line in by_text.items()} == {
        "to out": OUT,
        "to err": ERR,
        "later": OUT,
    }
    for text in ("to out", "to err"):
        assert before_ms <= by_text[text].at_ms <= between_ms
    assert between_ms <= by_text["later"].at_ms <= now_ms()


async def test_build_tells_its_commands_and_both_streams(sandbox: Sandbox, source: Path) -> None:
    steps = plan(install="echo installed", build="echo built; echo warning >&2")
    await build(sandbox, source, steps)
    found = [(line.stream, line.text) for line in await lines(sandbox, BUILD)]
    assert found[:3] == [
        (GATEWAY, "$ echo installed"),
        (OUT, "installed"),
        (GATEWAY, f"$ {steps.build}"),
    ]
    assert set(found[3:]) == {(OUT, "built"), (ERR, "warning")}


async def test_lines_of_a_build_are_there_while_it_runs(sandbox: Sandbox, source: Path) -> None:
    building = asyncio.create_task(
        build(sandbox, source, plan(install="echo begun; printf 'no end yet'; sleep 60"))
    )
    try:
        await until_read(
            lambda: lines(sandbox, BUILD),
            lambda found: [line.text for line in found][1:] == ["begun", "no end yet"],
        )
        assert not building.done()
    finally:
        building.cancel()
        await asyncio.gather(building, return_exceptions=True)


@pytest.mark.parametrize("end", ["os._exit(3)", "os.kill(os.getpid(), 9)"])
async def test_last_words_before_a_crash_are_there(
    sandbox: Sandbox, source: Path, end: str
) -> None:
    (source / "app.py").write_text(
        "import os\n"
        "for n in range(3000): os.write(1, b'line %d\\n' % n)\n"
        f"os.write(2, b'because')\n{end}\n"
    )
    await build(sandbox, source, plan())
    with pytest.raises(DeployFailed) as caught:
        await start(sandbox, plan(start="exec python3 app.py"))
    found = await lines(sandbox)
    assert [line.text for line in found if line.stream is OUT] == [f"line {n}" for n in range(3000)]
    assert [line.text for line in found if line.stream is ERR] == ["because"]
    assert "because\n" in caught.value.log_tail
    assert "line 2999\n" in caught.value.log_tail


async def test_last_words_of_node_are_there(sandbox: Sandbox, source: Path) -> None:
    (source / "index.js").write_text(
        "for (let n = 0; n < 3000; n++) console.log('line', n);\n"
        "console.error('because'); process.exit(3);"
    )
    await build(sandbox, source, plan())
    with pytest.raises(DeployFailed):
        await start(sandbox, plan())
    texts = [line.text for line in await lines(sandbox)]
    assert [text for text in texts if text != "because"] == [f"line {n}" for n in range(3000)]
    assert "because" in texts


async def test_restarts_go_on_in_the_same_log(sandbox: Sandbox, source: Path) -> None:
    (source / "index.js").write_text("console.log('up');\n" + ON_PORT)
    alone = plan(start="exec node index.js")  # a shell would say that it was terminated
    await build_and_start(sandbox, source, alone)
    await sandbox.stop("first")
    place = (await sandbox.read_log("first", RUNTIME)).next
    await sandbox.note("first", "starting it\nagain")
    await start(sandbox, alone)
    await until_read(lambda: lines(sandbox), lambda found: len(found) == 3)
    after = (await sandbox.read_log("first", RUNTIME, after=place)).lines
    assert [(line.stream, line.text) for line in after] == [
        (GATEWAY, "starting it again"),
        (OUT, "up"),
    ]


async def test_logs_of_a_failed_deployment_outlive_its_files(
    sandbox: Sandbox, source: Path
) -> None:
    (source / "index.js").write_text("console.log('no luck'); process.exit(1);")
    await build(sandbox, source, plan(build="echo built"))
    with pytest.raises(DeployFailed):
        await start(sandbox, plan())
    await sandbox.stop("first", keep=Keep.LOGS)
    assert [line.text for line in await lines(sandbox)] == ["no luck"]
    assert [line.text for line in await lines(sandbox, BUILD)] == ["$ echo built", "built"]
    await sandbox.note("gone", "is left out")
    assert await lines(sandbox, RUNTIME, "gone") == []


async def test_copy_has_the_build_log_and_none_of_the_app(sandbox: Sandbox, source: Path) -> None:
    (source / "index.js").write_text("console.log('up');\n" + ON_PORT)
    await build(sandbox, source, plan(build="echo built"))
    await start(sandbox, plan())
    await sandbox.copy("first", "second")
    assert [line.text for line in await lines(sandbox, BUILD, "second")] == [
        "$ echo built",
        "built",
    ]
    assert await lines(sandbox, RUNTIME, "second") == []


async def test_build_begun_again_keeps_what_came_before(sandbox: Sandbox, source: Path) -> None:
    await build(sandbox, source, plan(build="echo once"))
    place = (await sandbox.read_log("first", BUILD)).next
    await build(sandbox, source, plan(build="echo twice"))
    texts = [line.text for line in (await sandbox.read_log("first", BUILD, after=place)).lines]
    assert texts == ["what was begun before is begun again", "$ echo twice", "twice"]


@pytest.fixture
async def state_dir(tmp_path: Path) -> Path:
    return tmp_path / "state"


@pytest.fixture
async def gateways(state_dir: Path) -> AsyncIterator[list[Sandbox]]:
    """Gateways one after the other over the same state; the last is closed with its apps."""
    opened: list[Sandbox] = [make_sandbox(state_dir)]
    await opened[0].open()
    yield opened
    await opened[-1].close(stop_apps=True)


async def test_restart_of_the_gateway_loses_no_line(
    gateways: list[Sandbox], state_dir: Path, source: Path
) -> None:
    (source / "index.js").write_text(COUNTER)
    (first,) = gateways
    await build_and_start(first, source, plan())
    await until_read(lambda: counted(first), lambda found: len(found) > 100)
    collects = collector(state_dir)
    await first.close(stop_apps=False)
    await asyncio.sleep(0.5)  # the app goes on meanwhile
    gateways.append(make_sandbox(state_dir, instance_id=first.instance_id))
    await gateways[-1].open()
    assert collector(state_dir) == collects
    seen = await counted(gateways[-1])
    await until_read(lambda: counted(gateways[-1]), lambda found: len(found) > len(seen) + 100)
    found = await counted(gateways[-1])
    assert found == list(range(len(found)))


async def test_lines_wait_while_nobody_collects(
    sandbox: Sandbox, state_dir: Path, source: Path
) -> None:
    """A collector that comes late finds all, as far as a pipe holds it."""
    (source / "index.js").write_text(COUNTER)
    instance = await build_and_start(sandbox, source, plan())
    pid = collector(state_dir)
    os.kill(pid, signal.SIGSTOP)
    try:
        await until(lambda: is_stopped(pid))
        before = await counted(sandbox)
        assert await fetch(instance.address) == "hello"
        await asyncio.sleep(0.5)
        assert await counted(sandbox) == before
    finally:
        os.kill(pid, signal.SIGCONT)
    await until_read(lambda: counted(sandbox), lambda found: len(found) > len(before) + 200)
    found = await counted(sandbox)
    assert found == list(range(len(found)))


async def test_killed_collector_is_replaced_and_lines_go_on(
    sandbox: Sandbox, state_dir: Path, source: Path
) -> None:
    (source / "index.js").write_text(COUNTER)
    instance = await build_and_start(sandbox, source, plan())
    await until_read(lambda: counted(sandbox), lambda found: len(found) > 100)
    killed = collector(state_dir)
    os.kill(killed, signal.SIGKILL)
    await until(lambda: killed not in processes_saying(str(state_dir)))
    count = len(await counted(sandbox))
    await until_read(lambda: counted(sandbox), lambda found: len(found) > count + 200)
    assert collector(state_dir) != killed
    found = await counted(sandbox)
    assert found == sorted(set(found))
    assert await fetch(instance.address) == "hello"


async def test_flood_is_capped_and_leaves_others_prompt(
    sandbox: Sandbox, state_dir: Path, source: Path
) -> None:
    (source / "app.py").write_text(FLOODER)
    (source / "index.js").write_text(
        "require('http').createServer((request, response) => {\n"
        "  console.log('asked'); response.end('hello'); }).listen(3000);"
    )
    flooding = plan(start="exec python3 app.py")
    await build(sandbox, source, flooding, deployment_id="flooder")
    await build(sandbox, source, plan())
    quiet = await start(sandbox, plan())
    await start(sandbox, flooding, deployment_id="flooder")
    logs = state_dir / "deployments" / "flooder" / "logs" / "runtime"
    await until(lambda: bytes_in(logs) > 6 << 20)
    for _ in range(5):
        await _prompt(sandbox, quiet)
    assert bytes_in(logs) <= CAP_BYTES["runtime"]
    told = await lines(sandbox, RUNTIME, "flooder")
    assert any("bytes left out" in line.text for line in told if line.stream is GATEWAY)
    assert all(len(line.text) <= LINE_BYTES for line in told)
    assert resident_bytes(collector(state_dir)) < 32 << 20


async def _prompt(sandbox: Sandbox, quiet: Instance) -> None:
    """One more line of the quiet app's, there soon after it was written."""
    count = len(await lines(sandbox))
    await fetch(quiet.address)
    await until_read(lambda: lines(sandbox), lambda found: len(found) > count)


def resident_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def test_escapes_and_odd_bytes_are_kept_and_break_nothing(
    sandbox: Sandbox, source: Path
) -> None:
    (source / "app.py").write_text(
        "import os\n"
        r"os.write(1, b'\x1b[2J\x1b]0;owned\x07 \x00 \xff\xfe \xe2\x80\xae\r\n')" + "\n"
        r"os.write(1, b'17 g forged\n')" + "\n"
    )
    await build(sandbox, source, plan())
    with pytest.raises(DeployFailed):
        await start(sandbox, plan(start="exec python3 app.py"))
    assert [(line.stream, line.text) for line in await lines(sandbox)] == [
        (OUT, "\x1b[2J\x1b]0;owned\x07 \0 \ufffd\ufffd \u202e\r"),
        (OUT, "17 g forged"),
    ]


async def test_close_leaves_no_collector_and_no_pipe_in_use(tmp_path: Path, source: Path) -> None:
    runtime = make_sandbox(tmp_path / "other")
    await runtime.open()
    await build_and_start(runtime, source, plan())
    assert processes_saying(str(tmp_path / "other"))
    await runtime.close(stop_apps=True)
    assert processes_saying(str(tmp_path / "other")) == set()
    assert not Path("/run/moorage", runtime.instance_id).exists()
    assert not list((tmp_path / "other").glob("collector*"))
