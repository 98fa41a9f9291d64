"""Logs over real HTTP: pages, and streams through builds, crashes, redeploys and restarts."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from support.clients.wallet import Answer, Wallet, fresh_name
from support.gateway.gateway_fixture import REPOSITORY, DevGateway, running

pytestmark = pytest.mark.root

COMMAND = Path(sys.executable).parent / "moorage"

TALKER = {
    "index.js": """\
let asked = 0;
console.log('up');
require('http').createServer((request, response) => {
  if (request.url === '/crash') { console.log('crashing'); process.exit(1); }
  console.log(`asked ${asked}`);
  response.end(String(asked++));
}).listen(process.env.PORT);
""",
    "package.json": '{"name": "talker", "scripts": {"build": "node build.js"}}',
    "build.js": """\
console.log('begun');
setTimeout(() => console.error('nearly'), 700);
setTimeout(() => console.log('finished'), 1400);
""",
}


@pytest.fixture
async def wallet(dev_gateway: DevGateway) -> Wallet:
    return await Wallet(dev_gateway).fund()


def path(deployed: Answer, **query: str | int) -> str:
    project, deployment = deployed.body["projectId"], deployed.body["deploymentId"]
    asked = "&".join(f"{name}={value}" for name, value in query.items())
    return f"/agent/deploy/{project}/{deployment}/logs?{asked}"


async def page(wallet: Wallet, deployed: Answer, **query: str | int) -> dict[str, Any]:
    answer = await wallet.call("GET", path(deployed, **query))
    assert answer.status == 200, answer.body
    return answer.body


class Event(dict[str, str]):
    """The fields of one server-sent event."""

    @property
    def text(self) -> str:
        return str(json.loads(self["data"]).get("text"))


@asynccontextmanager
async def followed(
    wallet: Wallet, deployed: Answer, *, last: str = "", **query: str | int
) -> AsyncIterator[AsyncIterator[Event]]:
    """The events of a stream, read as the standard says, by nothing of ours."""
    async with stream(wallet, path(deployed, follow="true", **query), last=last) as events:
        yield events


@asynccontextmanager
async def stream(wallet: Wallet, at: str, *, last: str = "") -> AsyncIterator[AsyncIterator[Event]]:
    headers = wallet.signed() | ({"Last-Event-ID": last} if last else {})
    url = wallet.gateway.url + at
    async with aiohttp.ClientSession() as session, session.get(url, headers=headers) as answer:
        assert answer.status == 200, await answer.text()
        assert answer.headers["Content-Type"] == "text/event-stream"
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["X-Accel-Buffering"] == "no"
        yield _events(answer)


async def _events(answer: aiohttp.ClientResponse) -> AsyncIterator[Event]:
    event = Event()
    async for raw in answer.content:
        line = raw.decode().rstrip("\n")
        if not line and event:
            yield event
            event = Event()
        elif line and not line.startswith(":"):
            name, _, value = line.partition(": ")
            event[name] = value


async def take(events: AsyncIterator[Event], count: int, *, seconds: float = 60) -> list[Event]:
    async with asyncio.timeout(seconds):
        return [await anext(events) for _ in range(count)]


async def rest(events: AsyncIterator[Event], *, seconds: float = 180) -> list[Event]:
    async with asyncio.timeout(seconds):
        return [event async for event in events]


async def test_page_tells_time_stream_and_text(wallet: Wallet) -> None:
    deployed = await wallet.deploy_paid(fresh_name(), TALKER)
    await wallet.settled(deployed)
    body = await page(wallet, deployed, kind="build")
    assert set(body) == {"projectId", "deploymentId", "kind", "lines", "next", "ended", "kept"}
    assert (body["kind"], body["ended"]) == ("build", True)
    by_text = {line["text"]: line for line in body["lines"]}
    assert by_text["begun"]["stream"] == "out"
    assert by_text["nearly"]["stream"] == "err"
    assert by_text["$ npm run build"]["stream"] == "gateway"
    assert by_text["begun"]["time"] <= by_text["finished"]["time"]


async def test_build_is_followed_live_to_its_end(wallet: Wallet) -> None:
    slow = {"build.js": TALKER["build.js"].replace("1400", "5000")}
    deployed = await wallet.deploy_paid(fresh_name(), TALKER | slow)
    async with followed(wallet, deployed, kind="build") as events, asyncio.timeout(60):
        seen = [await anext(events)]
        while seen[-1].text != "begun":
            seen.append(await anext(events))
        status = (await wallet.status(deployed)).body  # each comes at its time, not all at the end
        assert status["deployment_status"] == "building"
        seen += [event async for event in events]
    *lines, end = seen
    assert [event.text for event in lines if event.text in ("begun", "finished")] == [
        "begun", "finished",
    ]  # fmt: skip
    assert "nearly" in [event.text for event in lines]
    assert end["event"] == "end"


async def test_stream_goes_on_over_a_crash_and_restart_of_the_app(wallet: Wallet) -> None:
    name = fresh_name()
    deployed = await wallet.deploy_paid(name, TALKER)
    await wallet.settled(deployed)
    async with followed(wallet, deployed) as events:
        await wallet.visit(name, "/crash")
        async with asyncio.timeout(60):
            seen = [await anext(events)]
            while [event.text for event in seen].count("up") < 2:
                seen.append(await anext(events))
    said = [event.text for event in seen]
    assert said.index("crashing") < len(said) - 1 == len(said) - 1 - said[::-1].index("up")


@pytest.fixture
def own_gateway(tmp_path: Path) -> Iterator[DevGateway]:
    with running(tmp_path / "data", requests_per_minute="100000") as gateway:
        yield gateway


def run_cli(gateway: DevGateway, key: str, *arguments: str) -> "subprocess.Popen[str]":
    environment = {k: v for k, v in os.environ.items() if not k.startswith("MOORAGE_")}
    return subprocess.Popen(
        [str(COMMAND), *arguments, "--gateway", gateway.url],
        cwd=REPOSITORY,
        env=environment | {"MOORAGE_PRIVATE_KEY": key},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


async def test_command_follows_a_build_to_its_end(wallet: Wallet) -> None:
    name = fresh_name()
    deployed = await wallet.deploy_paid(name, TALKER)
    await wallet.settled(deployed)
    arguments = ("logs", name, "--build", "--follow")
    shown = run_cli(wallet.gateway, wallet.key, *arguments)
    out, err = await asyncio.to_thread(shown.communicate)
    assert shown.returncode == 0, err
    assert [line for line in out.splitlines() if line in ("begun", "finished")] == [
        "begun", "finished",
    ]  # fmt: skip
    as_json = run_cli(wallet.gateway, wallet.key, *arguments, "--json", "--bound")
    out, _ = await asyncio.to_thread(as_json.communicate)
    lines = [json.loads(line) for line in out.splitlines()]
    (nearly,) = [line for line in lines if line.get("text") == "nearly"]
    assert nearly["stream"] == "err"


async def test_stream_goes_on_behind_its_last_event_after_a_crash_of_the_gateway(
    own_gateway: DevGateway,
) -> None:
    """The app goes on writing meanwhile; nothing is missed, nothing told twice."""
    wallet = await Wallet(own_gateway).fund()
    counting = TALKER["index.js"] + "let n = 0; setInterval(() => console.log(`n ${n++}`), 20);\n"
    deployed = await wallet.deploy_paid(fresh_name(), {"index.js": counting})
    await wallet.settled(deployed)
    async with followed(wallet, deployed, since=1) as events:
        seen = await take(events, 50)
        own_gateway.kill()
        with pytest.raises(aiohttp.ClientError):
            seen += await rest(events)
    own_gateway.start()
    async with followed(wallet, deployed, last=seen[-1]["id"]) as events:
        seen += await take(events, 400)
    numbers = [int(event.text[2:]) for event in seen if event.text.startswith("n ")]
    assert numbers == list(range(len(numbers)))


async def test_streams_do_not_hold_up_a_gateway_that_stops(own_gateway: DevGateway) -> None:
    wallet = await Wallet(own_gateway).fund()
    deployed = await wallet.deploy_paid(fresh_name(), TALKER)
    await wallet.settled(deployed)
    async with followed(wallet, deployed) as events:
        await take(events, 1)
        stopping = asyncio.create_task(asyncio.to_thread(own_gateway.stop))
        # It ends in order: what is not over when its time is gets cut, amid a chunk.
        assert "end" not in [event["event"] for event in await rest(events)]
        await stopping


async def test_project_has_the_lines_of_all_its_deployments(wallet: Wallet) -> None:
    name = fresh_name()
    told = [await wallet.deploy_paid(name, {"index.js": TALKER["index.js"]})]
    await wallet.settled(told[0])
    project = told[0].body["projectId"]
    live: list[dict[str, Any]] = []
    async with stream(wallet, f"/agent/projects/{name}/logs?after=0&follow=true") as events:
        told.append(await wallet.deploy(name, {"index.js": TALKER["index.js"] + "//"}))
        await wallet.settled(told[1])
        ids = [each.body["deploymentId"] for each in told]
        while {each["deploymentId"] for each in live if each["text"] == "up"} != set(ids):
            live += [json.loads(event["data"]) for event in await take(events, 1)]

    async def lines(**query: str | int) -> list[dict[str, Any]]:
        asked = "&".join(f"{key}={value}" for key, value in query.items())
        answer = await wallet.call("GET", f"/agent/projects/{project}/logs?{asked}")
        assert answer.status == 200, answer.body
        shown: list[dict[str, Any]] = answer.body["lines"]
        return shown

    def ups(shown: list[dict[str, Any]]) -> list[str]:
        return [each["deploymentId"] for each in shown if each["text"] == "up"]

    async with asyncio.timeout(60):
        while ups(shown := await lines()) != ids:
            await asyncio.sleep(0.05)
    assert [each["time"] for each in shown] == sorted(each["time"] for each in shown)
    assert (await lines(tail=1))[0]["deploymentId"] in ids
    page = await wallet.call("GET", f"/agent/projects/{project}/logs?after=0")
    for of in ids:  # of each whole and in order; more may have come meanwhile
        now, before = (
            [each for each in log if each["deploymentId"] == of]
            for log in (page.body["lines"], live)
        )
        assert now[: len(before)] == before
    next_page = f"/agent/projects/{project}/logs?after={page.body['next']}"
    assert not [
        each for each in (await wallet.call("GET", next_page)).body["lines"] if each in live
    ]
    wrong = await wallet.call("GET", f"/agent/projects/{project}/logs?after=x")
    assert (wrong.status, wrong.body["field"]) == (400, "after")
    assert await lines(since="2999-01-01T00:00:00Z") == []
    unknown = await wallet.call("GET", f"/agent/projects/{project}/logs?stream=err")
    assert (unknown.status, unknown.body["field"]) == (400, "stream")
    stranger = await Wallet(wallet.gateway).call("GET", f"/agent/projects/{project}/logs")
    assert stranger.status == 403
