"""The command as a process of its own, against a gateway that misbehaves."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from eth_account import Account
from eth_account.messages import encode_typed_data
from sdk_stubs import (
    DEPLOYMENT,
    PROJECT,
    USDC,
    StubGateway,
    StubNode,
    answers,
    deploying,
    problem,
    serving,
)
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from support.gateway.gateway_fixture import moorage

KEYS = tuple("0x" + f"{number:02x}" * 32 for number in (0x11, 0x22))
MAIN = "from moorage.cli.main import main; main()"
READY = {
    "status": "ready",
    "deployment_id": DEPLOYMENT,
    "endpoint": "http://hello.localhost:8080",
}


PAID = "0x" + "ab" * 32
"""A transaction that paid."""


class Outcome(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        return json.loads(self.out)


class Silent(Response):
    """An answer that never comes, for as long as it is waited for."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = asyncio.Event()

    async def __call__(self, _scope: Scope, receive: Receive, _send: Send) -> None:
        self.asked.set()
        while (await receive())["type"] != "http.disconnect":
            pass


class Terminal:
    """A directory with an app and dev.json, and `moorage` run in it without a terminal."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.gateway = StubGateway()
        self.node = StubNode()
        self.gateway.statuses = [READY]
        (directory / "app").mkdir()
        (directory / "app" / "index.html").write_text("<h1>hello</h1>")
        (directory / "app" / ".env").write_text("SECRET=1")

    def write_dev_file(self) -> None:
        arbitrum = {"chain_id": 42161, "rpc_url": self.node.url, "tokens": {"usdc": USDC}}
        dev = {
            "gateway": self.gateway.url,
            "chains": {"arbitrum": arbitrum},
            "wallets": [{"address": "0x", "private_key": key} for key in KEYS],
        }
        (self.directory / ".moorage").mkdir()
        (self.directory / ".moorage" / "dev.json").write_text(json.dumps(dev))

    async def run(self, *arguments: str) -> Outcome:
        """Runs the command to its end."""
        done = await asyncio.to_thread(
            moorage, *arguments, env=self.environment(), cwd=self.directory
        )
        return _outcome(done.returncode, done.stdout, done.stderr)

    async def execute(
        self,
        *arguments: str,
        stdout: int = asyncio.subprocess.PIPE,
        stderr: int = asyncio.subprocess.PIPE,
        **environment: str,
    ) -> Outcome:
        """Runs it as `run` does, but with an interpreter of its own, and with these outputs."""
        process = await self.start(*arguments, stdout=stdout, stderr=stderr, **environment)
        out, err = await asyncio.wait_for(process.communicate(), timeout=60)
        return _outcome(process.returncode or 0, (out or b"").decode(), (err or b"").decode())

    async def start(
        self,
        *arguments: str,
        program: str = MAIN,
        stdout: int = asyncio.subprocess.PIPE,
        stderr: int = asyncio.subprocess.PIPE,
        **environment: str,
    ) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            program,
            *arguments,
            cwd=self.directory,
            env=self.environment() | environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
        )

    def environment(self) -> dict[str, str]:
        clean = {name: value for name, value in os.environ.items() if "MOORAGE" not in name}
        return clean | {"MOORAGE_STATE_DIR": str(self.directory / "state")}


def _outcome(code: int, out: str, err: str) -> Outcome:
    for key in KEYS:
        assert key[2:] not in out + err
    return Outcome(code, out, err)


@pytest.fixture
async def terminal(tmp_path: Path) -> AsyncIterator[Terminal]:
    found = Terminal(tmp_path)
    async with serving(found.gateway, found.node):
        found.write_dev_file()
        yield found


async def test_deploy_that_needs_no_payment_shows_its_warnings(terminal: Terminal) -> None:
    lost = {"code": "data_lost", "message": "Files that the app writes are lost."}
    body = {"projectId": PROJECT, "deploymentId": DEPLOYMENT, "status": "deploying"}
    terminal.gateway.unpaid = lambda _: JSONResponse(body | {"message": "", "warnings": [lost]})
    outcome = await terminal.run("deploy", "app", "--name", "hello", "--yes")
    assert outcome.code == 0, outcome.err
    assert outcome.err.count("warning: Files that the app writes are lost.") == 1
    assert terminal.node.payments == set()


async def test_deploy_shows_the_price_pays_and_prints_the_address(terminal: Terminal) -> None:
    outcome = await terminal.run("deploy", "app", "--name", "hello", "--yes")
    assert outcome.code == 0, outcome.err
    assert (
        "hello: $0.50 for 1 month on arbitrum (0.50 USDC), your wallet holds 1000.00" in outcome.err
    )
    assert "warning: .env was not uploaded" in outcome.err
    assert "http://hello.localhost:8080" in outcome.out
    assert len(terminal.node.payments) == 1
    sent = [*terminal.gateway.uploads.values(), *terminal.gateway.bodies]
    assert len(terminal.gateway.uploads) == 1
    assert not any(b"SECRET" in each for each in sent)


async def test_json_is_one_document_on_stdout(terminal: Terminal) -> None:
    outcome = await terminal.run("deploy", "app", "--name", "hello", "--max-usd", "0.5", "--json")
    assert outcome.code == 0, outcome.err
    (tx_hash,) = terminal.node.sent
    document = outcome.document
    assert (document["status"], document["endpoint"]) == ("ready", READY["endpoint"])
    assert (document["projectId"], document["deploymentId"]) == (PROJECT, DEPLOYMENT)
    assert document["payment"]["tx_hash"] == tx_hash


@pytest.mark.parametrize("flags", [[], ["--max-usd", "0.49"], ["--yes", "--max-usd", "0.49"]])
async def test_unapproved_price_is_not_paid(terminal: Terminal, flags: list[str]) -> None:
    outcome = await terminal.run("deploy", "app", "--name", "hello", "--json", *flags)
    assert (outcome.code, outcome.document["code"]) == (3, "payment_refused")
    assert terminal.node.sent == []


async def test_killed_while_the_gateway_holds_the_paid_request_pays_once(
    terminal: Terminal,
) -> None:
    held = asyncio.Event()
    gone = asyncio.Event()

    async def hold(tx_hash: str) -> Any:
        terminal.gateway.take(tx_hash)
        held.set()
        await gone.wait()
        return problem(500, "nobody_reads_this")

    terminal.gateway.paid = [hold]
    process = await terminal.start("deploy", "app", "--name", "hello", "--yes")
    await asyncio.wait_for(held.wait(), timeout=60)
    process.send_signal(signal.SIGKILL)
    await process.communicate()
    gone.set()

    outcome = await terminal.run("deploy", "app", "--name", "hello", "--yes", "--json")
    assert outcome.code == 0, outcome.err
    assert outcome.document["deploymentId"] == DEPLOYMENT
    assert len(terminal.node.payments) == 1
    assert outcome.document["payment"]["tx_hash"] in terminal.node.payments


async def test_uncertain_payment_names_its_hash_and_exits_3(terminal: Terminal) -> None:
    terminal.gateway.paid = [answers(problem(402, "payment_not_found", looked_for={}))]
    outcome = await terminal.run("deploy", "app", "--name", "hello", "--yes", "--json")
    assert (outcome.code, outcome.document["code"]) == (3, "payment_uncertain")
    assert outcome.document["payment"]["tx_hash"] in terminal.node.payments
    assert outcome.document["cause"]["code"] == "payment_not_found"


async def test_failed_deployment_exits_1_with_its_reason(terminal: Terminal) -> None:
    failed = {"status": "failed", "deployment_id": DEPLOYMENT, "reason": "it \x1b[31mcrashed"}
    terminal.gateway.statuses = [failed]
    outcome = await terminal.run("deploy", "app", "--name", "hello", "--yes")
    assert outcome.code == 1
    assert "hello failed: it crashed" in outcome.out


async def test_no_follow_ends_with_the_ids(terminal: Terminal) -> None:
    terminal.gateway.statuses = []
    outcome = await terminal.run("deploy", "app", "--name", "hello", "--yes", "--no-follow")
    assert outcome.code == 0, outcome.err
    assert f"moorage status {PROJECT} {DEPLOYMENT}" in outcome.out


def list_the_project(gateway: StubGateway) -> None:
    project = {"id": PROJECT, "name": "hello", "status": "active", "url": None}
    listed = {"wallet": "0x", "count": 1, "projects": [project]}
    gateway.other["GET", "/agent/projects"] = [JSONResponse(listed)]


async def test_status_by_name_asks_the_gateway_for_the_newest_deployment(
    terminal: Terminal,
) -> None:
    list_the_project(terminal.gateway)
    newest = {"projectId": PROJECT, "deployments": [{"id": DEPLOYMENT, "status": "ready"}]}
    path = f"/agent/projects/{PROJECT}/deployments"
    terminal.gateway.other["GET", path] = [JSONResponse(newest)]
    outcome = await terminal.run("status", "hello", "--json")
    assert (outcome.code, outcome.document) == (0, READY)
    assert terminal.gateway.queries == ["", "limit=1"]


async def test_copy_of_a_release_is_told_to_start_and_never_to_build(terminal: Terminal) -> None:
    list_the_project(terminal.gateway)
    path = f"/agent/projects/{PROJECT}/rollback"
    terminal.gateway.other["POST", path] = [deploying()]
    under_way = {"status": "deploying", "deployment_id": DEPLOYMENT}
    terminal.gateway.statuses = [
        *(
            under_way | {"deployment_status": stage}
            for stage in ("queued", "building", "deploying")
        ),
        READY,
    ]
    outcome = await terminal.run("rollback", "hello")
    assert outcome.code == 0, outcome.err
    assert outcome.err.split() == ["queued", "starting", "ready"]


@pytest.fixture
def broken_pipe() -> Iterator[int]:
    """A pipe's end to write to, whose reader has left."""
    reader, writer = os.pipe()
    os.close(reader)
    yield writer
    os.close(writer)


@pytest.mark.parametrize(
    "arguments", [["projects"], ["projects", "--json"], ["--help"], ["nosuch", "--json"]]
)
async def test_reader_who_left_ends_a_command_without_a_word(
    terminal: Terminal, broken_pipe: int, arguments: list[str]
) -> None:
    listed = {"wallet": "0x", "count": 0, "projects": []}
    terminal.gateway.other["GET", "/agent/projects"] = [JSONResponse(listed)]
    outcome = await terminal.execute(*arguments, stdout=broken_pipe)
    assert (outcome.code, outcome.err) == (141, "")


async def test_notes_that_nobody_reads_do_not_end_a_deploy(
    terminal: Terminal, broken_pipe: int
) -> None:
    outcome = await terminal.execute(
        "deploy", "app", "--name", "hello", "--yes", stderr=broken_pipe
    )
    assert (outcome.code, len(terminal.node.payments)) == (0, 1)
    assert "http://hello.localhost:8080" in outcome.out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["logs", "hello", "--follow"], "Interrupted.\n"),
        (
            ["deploy", "app", "--name", "hello", "--yes"],
            "Interrupted. A payment that was made is recorded: the same command resumes it.\n",
        ),
    ],
    ids=["logs", "deploy"],
)
async def test_interrupted_command_says_what_it_leaves_behind(
    terminal: Terminal, arguments: list[str], said: str
) -> None:
    silent = Silent()
    terminal.gateway.paid = [answers(silent)]
    terminal.gateway.other["GET", "/agent/projects"] = [silent]
    process = await terminal.start(*arguments)
    await asyncio.wait_for(silent.asked.wait(), timeout=60)
    process.send_signal(signal.SIGINT)
    _, err = await asyncio.wait_for(process.communicate(), timeout=60)
    assert process.returncode == 130
    assert err.decode().endswith(said)


async def test_wait_that_the_gateway_asks_for_is_told(terminal: Terminal) -> None:
    busy = problem(429, "rate_limited", retryable=True)
    busy.headers["Retry-After"] = "2"
    listed = {"wallet": "0x", "count": 0, "projects": []}
    terminal.gateway.other["GET", "/agent/projects"] = [busy, JSONResponse(listed)]
    outcome = await terminal.run("projects", "--json")
    assert (outcome.code, outcome.document) == (0, listed)
    assert outcome.err == "The gateway asks for fewer requests: waiting 2 s.\n"


async def test_delete_by_name_removes_that_project(terminal: Terminal) -> None:
    list_the_project(terminal.gateway)
    gone = {"projectId": PROJECT, "status": "deleted"}
    terminal.gateway.other["DELETE", f"/agent/projects/{PROJECT}"] = [JSONResponse(gone)]
    outcome = await terminal.run("delete", "hello", "--yes", "--json")
    assert (outcome.code, outcome.document) == (0, gone)
    outcome = await terminal.run("delete", "other", "--yes", "--json")
    assert (outcome.code, outcome.document["code"]) == (5, "project_not_found")


async def test_balance_shows_every_chain_the_gateway_takes(terminal: Terminal) -> None:
    chains = [{"chain": "arbitrum", "chain_id": 42161, "tokens": ["usdc"]}]
    held = {
        "token": "usdc",
        "symbol": "USDC",
        "address": USDC,
        "balance": "18.000000",
        "balance_raw": "18000000",
        "decimals": 6,
    }
    wallet = "0x19E7E376E7C213B7E7e7e46cc70A5dD086DAff2A"  # of the key 0x1111…
    balances = {"address": wallet, "chain": "arbitrum", "chain_id": 42161, "balances": [held]}
    terminal.gateway.other["GET", "/agent/chains"] = [JSONResponse({"chains": chains})]
    terminal.gateway.other["GET", f"/agent/balance/{wallet}"] = [JSONResponse(balances)]
    outcome = await terminal.run("balance")
    assert outcome.code == 0, outcome.err
    assert outcome.out == (f"{wallet}\nCHAIN     TOKEN  BALANCE\narbitrum  USDC   18.000000\n")
    outcome = await terminal.run("balance", wallet, "--chain", "arbitrum", "--json")
    assert outcome.document == {"address": wallet, "chains": [balances]}


async def test_gateway_that_does_not_run_says_how_to_start_it(terminal: Terminal) -> None:
    outcome = await terminal.run("chains", "--gateway", "http://127.0.0.1:9")
    assert outcome.code == 4
    assert outcome.err == (
        "error: no gateway answers at http://127.0.0.1:9\nStart it with `make dev`.\n"
    )


@pytest.mark.parametrize(
    ("arguments", "heavy"),
    [
        (["--help"], {"cyclopts", "rich", "msgspec", "aiohttp", "asyncio"}),
        (["projects"], {"rich", "eth_account", "sqlalchemy", "starlette", "uvicorn", "mcp"}),
        (["deploy", "app", "--name", "x"], {"eth_account", "sqlalchemy", "starlette", "mcp"}),
    ],
    ids=["help", "projects", "deploy"],
)
async def test_heavy_modules_wait_until_they_are_needed(
    terminal: Terminal, arguments: list[str], heavy: set[str]
) -> None:
    listed = {"wallet": "0x", "count": 0, "projects": []}
    terminal.gateway.other["GET", "/agent/projects"] = [JSONResponse(listed)]
    program = "import sys; from moorage.cli.main import run; run(sys.argv[1:]); print(*sys.modules)"
    process = await terminal.start(*arguments, program=program)
    out, _ = await asyncio.wait_for(process.communicate(), timeout=60)
    loaded = set(out.decode().splitlines()[-1].split())
    assert "moorage.cli.main" in loaded
    assert not heavy & loaded


async def test_credits_show_what_is_left_what_burns_and_what_was_paid(terminal: Terminal) -> None:
    document = {
        "wallet": "0x" + "1" * 40,
        "balance_usd": 0.49863,
        "balance_micro_usd": 498_630,
        "burn_per_hour_usd": 0.000685,
        "burn_per_hour_micro_usd": 685,
        "runs_out_at": "2026-05-07T19:59:54.745Z",
        "burning": [{"projectId": PROJECT, "burn_per_hour_usd": 0.000685}],
        "ledger": [
            {
                "id": "burn:1",
                "kind": "burn",
                "amount_usd": -0.00137,
                "amount_micro_usd": -1370,
                "at": "2026-04-07T12:00:00.000Z",
                "projectId": PROJECT,
            }
        ],
        "next": None,
    }
    terminal.gateway.other["GET", "/agent/credits"] = [JSONResponse(document)]
    outcome = await terminal.run("credits")
    assert "$0.498630 in credits" in outcome.out
    assert "runs out at 2026-05-07T19:59:54.745Z" in outcome.out
    assert f"burn  -0.001370  {PROJECT}" in outcome.out

    terminal.gateway.other["GET", "/agent/credits"] = [JSONResponse(document)]
    outcome = await terminal.run("credits", "--json")
    assert outcome.document["ledger"] == document["ledger"]


async def test_topup_shows_the_price_pays_and_prints_the_balance(terminal: Terminal) -> None:
    outcome = await terminal.run("topup", "0.50", "--yes")
    assert outcome.code == 0, outcome.err
    assert "credits: $0.50 on arbitrum (0.50 USDC), your wallet holds 1000.00" in outcome.err
    assert "$0.500000 credited; $0.750000 in credits now." in outcome.out

    outcome = await terminal.run("topup", "0.50", "--yes", "--json")
    assert outcome.document == {
        "credited_usd": 0.5,
        "balance_usd": 0.75,
        "payment": {
            "chain": "arbitrum",
            "token": "usdc",
            "amount_token": "500000",
            "tx_hash": terminal.node.sent[1],
        },
    }


async def test_webhook_is_set_shown_and_removed(terminal: Terminal) -> None:
    shown = {
        "url": "https://hooks.example/",
        "created_at": "2026-04-07T12:00:00.000Z",
        "waiting": 2,
        "next_attempt_at": "2026-04-07T12:05:00.000Z",
        "last_delivery": {"status": "pending", "attempts": 3, "error": "HTTP 503"},
    }
    path = "/agent/webhook"
    made = {"url": shown["url"], "secret": "whsec_MfKQ"}
    terminal.gateway.other = {
        ("PUT", path): [JSONResponse(made)],
        ("GET", path): [JSONResponse(shown)],
        ("DELETE", path): [JSONResponse({"status": "deleted"})],
    }
    outcome = await terminal.run("webhook", "set", "https://hooks.example/")
    assert terminal.gateway.bodies == [b'{"url":"https://hooks.example/"}']
    assert "signed with whsec_MfKQ" in outcome.out

    outcome = await terminal.run("webhook", "show")
    assert outcome.out.splitlines() == [
        "https://hooks.example/",
        "2 waiting, next attempt at 2026-04-07T12:05:00.000Z",
        "last delivery pending after 3 attempts: HTTP 503",
    ]
    assert (await terminal.run("webhook", "show", "--json")).document == shown

    assert (await terminal.run("webhook", "remove", "--json")).document == {"status": "deleted"}


def log_page(*texts: str, **changes: Any) -> dict[str, Any]:
    lines = [{"time": None, "stream": "out", "text": text} for text in texts]
    page = {"projectId": PROJECT, "deploymentId": DEPLOYMENT, "kind": "runtime", "lines": lines}
    return page | {"next": "48", "ended": False, "kept": True} | changes


LOGS = ("GET", f"/agent/deploy/{PROJECT}/{DEPLOYMENT}/logs")


async def test_log_is_one_document_whose_next_is_read_on_from(terminal: Terminal) -> None:
    page = log_page("safe \u009b2J \u202e")
    terminal.gateway.other[LOGS] = [JSONResponse(page)]
    outcome = await terminal.run("logs", PROJECT, DEPLOYMENT, "--after", "12", "--json")
    assert (outcome.code, outcome.document) == (0, page)
    assert "\\u009b2J \\u202e" in outcome.out
    assert terminal.gateway.queries == ["kind=runtime&after=12"]


async def test_what_an_output_has_no_letters_for_is_escaped(terminal: Terminal) -> None:
    page = log_page("caf\u00e9 \U0001f6a2", ended=True)
    terminal.gateway.other[LOGS] = [JSONResponse(page)]
    arguments = ("logs", PROJECT, DEPLOYMENT)
    outcome = await terminal.execute(*arguments, PYTHONIOENCODING="ascii", PYTHONUTF8="0")
    assert (outcome.code, outcome.out) == (0, "caf\\xe9 \\U0001f6a2\n"), outcome.err
    outcome = await terminal.execute(*arguments, "--json", PYTHONIOENCODING="ascii")
    assert (outcome.code, outcome.document) == (0, page)


async def test_last_lines_of_a_log_are_one_request_and_those_since_a_time_as_many_as_it_takes(
    terminal: Terminal,
) -> None:
    pages = [log_page("one"), log_page("two", next="96", ended=True)]
    for flags, text, queries in (
        ([], "one\n", ["kind=runtime"]),
        (
            ["--since", "1"],
            "one\ntwo\n",
            ["kind=runtime&since=1", "kind=runtime&after=48"],
        ),
    ):
        terminal.gateway.other[LOGS] = [JSONResponse(page) for page in pages]
        terminal.gateway.queries.clear()
        outcome = await terminal.run("logs", PROJECT, DEPLOYMENT, *flags)
        assert (outcome.out, terminal.gateway.queries) == (text, queries)


@pytest.mark.parametrize(
    ("serving", "flags", "shown"),
    [("d1", [], "d1"), (None, [], "d2"), ("d1", ["--build"], "d2")],
    ids=["serving", "none serves", "build"],
)
async def test_log_of_a_project_is_of_what_serves_or_else_of_the_newest(
    terminal: Terminal, serving: str | None, flags: list[str], shown: str
) -> None:
    project = {"id": PROJECT, "name": "hello", "status": "active", "servingDeploymentId": serving}
    listed = {"projectId": PROJECT, "deployments": [{"id": "d2", "status": "failed"}]}
    terminal.gateway.other |= {
        ("GET", f"/agent/projects/{PROJECT}"): [JSONResponse(project)],
        ("GET", f"/agent/projects/{PROJECT}/deployments"): [JSONResponse(listed)],
        ("GET", f"/agent/deploy/{PROJECT}/{shown}/logs"): [JSONResponse(log_page("line"))],
    }
    outcome = await terminal.run("logs", PROJECT, *flags)
    assert (outcome.code, outcome.out) == (0, "line\n")


async def test_log_that_is_gone_is_said(terminal: Terminal) -> None:
    terminal.gateway.other[LOGS] = [JSONResponse(log_page(kept=False, ended=True))]
    outcome = await terminal.run("logs", PROJECT, DEPLOYMENT)
    assert (outcome.code, outcome.out) == (0, "")
    assert outcome.err == "This log is not kept any more.\n"


async def test_domain_is_added_looked_at_and_removed(terminal: Terminal) -> None:
    project_id = "6f1c7a52-0f53-4c3c-9c6c-0d5fd5c2f1aa"
    path = f"/agent/projects/{project_id}/domains"
    pending = {
        "domain": "shop.example",
        "status": "pending",
        "url": None,
        "problem": "There is no TXT record _moorage.shop.example.",
        "records": [
            {"type": "TXT", "name": "_moorage.shop.example", "value": "t"},
            {"type": "CNAME", "name": "shop.example", "value": "shop.apps.example"},
        ],
        "next_actions": ["Set the TXT record.", "POST …/verify looks at once."],
        "created_at": "2026-04-07T12:00:00.000Z",
        "verified_at": None,
        "checked_at": None,
        "next_check_at": None,
    }
    verified = pending | {"status": "verified", "url": "https://shop.example", "problem": ""}
    terminal.gateway.other = {
        ("POST", path): [JSONResponse(pending)],
        ("GET", path): [JSONResponse({"projectId": project_id, "domains": [pending]})],
        ("POST", f"{path}/shop.example/verify"): [JSONResponse(pending), JSONResponse(verified)],
        ("DELETE", f"{path}/shop.example"): [
            JSONResponse({"domain": "shop.example", "status": "removed"})
        ],
    }
    verify = f"moorage domains {project_id} verify shop.example"
    added = await terminal.run("domains", project_id, "add", "shop.example")
    assert terminal.gateway.bodies == [b'{"domain":"shop.example"}']
    assert added.code == 0
    assert added.out.splitlines() == [
        "shop.example: pending",
        "There is no TXT record _moorage.shop.example.",
        "",
        "RECORD  NAME                   VALUE",
        "TXT     _moorage.shop.example  t",
        "CNAME   shop.example           shop.apps.example",
        "",
        "The TXT record proves that the domain is yours, the other points it here.",
        "Where a zone allows no CNAME at its top, give it the A and AAAA that VALUE has.",
        f"It is not checked automatically. To check now: {verify}",
    ]
    assert "shop.example" in (await terminal.run("domains", project_id)).out

    looked = await terminal.run("domains", project_id, "verify", "shop.example", "--json")
    assert (looked.code, looked.document) == (1, pending)
    found = await terminal.run("domains", project_id, "verify", "shop.example")
    assert (found.code, found.out.splitlines()[:4]) == (
        0,
        [
            "shop.example: verified at https://shop.example",
            "",
            "RECORD  NAME          VALUE",
            "CNAME   shop.example  shop.apps.example",
        ],
    )
    removed = await terminal.run("domains", project_id, "remove", "shop.example")
    assert removed.out == "shop.example is removed.\n"


async def test_refused_times_of_usage_are_told_by_their_flags(terminal: Terminal) -> None:
    path = f"/agent/projects/{PROJECT}/usage"
    for field, flag in (("from", "--since"), ("to", "--until")):
        answer = {"error": f"{field}: must be a time", "code": "invalid_field", "field": field}
        terminal.gateway.other["GET", path] = [JSONResponse(answer, status_code=400)]
        outcome = await terminal.run("usage", PROJECT, flag, "yesterday")
        assert (outcome.code, outcome.err) == (2, f"error: {flag}: must be a time\n")


async def test_usage_shows_latency_and_what_waited_for_a_start(terminal: Terminal) -> None:
    amounts = dict.fromkeys(
        ("bytesIn", "bytesOut", "cpuMs", "memoryByteSeconds", "memoryPeakBytes"), 0
    )
    idle = amounts | {"requests": 0, "status": {}, "held": 0, "heldMs": 0}
    latency = {"medianMs": 12, "p95Ms": 180, "slowestMs": 2400}
    used = amounts | {"requests": 9, "status": {}, "held": 2, "heldMs": 1500, "latency": latency}
    times = {"from": "2026-04-07T09:00:00.000Z", "to": "2026-04-07T11:00:00.000Z"}
    hours = [idle | {"hour": times["from"]}, used | {"hour": "2026-04-07T10:00:00.000Z"}]
    page = {"projectId": PROJECT, **times, "now": None, "totals": used, "hours": hours}
    terminal.gateway.other["GET", f"/agent/projects/{PROJECT}/usage"] = [JSONResponse(page)]
    outcome = await terminal.run("usage", PROJECT)
    heads, nothing, some, *_ = (line.split() for line in outcome.out.splitlines()[1:])
    assert heads[:7] == ["FROM", "REQUESTS", "5XX", "MEDIAN", "95", "%", "SLOWEST"]
    assert nothing[3:6] == ["–", "–", "–"]
    assert some[3:9] == ["12", "ms", "180", "ms", "2400", "ms"]
    assert "waited until the app was started: 2, for 0.8 s on average" in outcome.out


async def test_events_after_a_sequence_are_listed(terminal: Terminal) -> None:
    event = {
        "id": "evt_1",
        "sequence": 8,
        "type": "credits.low",
        "timestamp": "2026-04-07T12:00:00.000Z",
        "data": {"hours": 24, "balance_usd": 0.5},
    }
    page = {"events": [event], "last_sequence": 8}
    terminal.gateway.other["GET", "/agent/events"] = [JSONResponse(page)]
    outcome = await terminal.run("events", "--after", "7", "--limit", "1")
    assert terminal.gateway.queries == ["after=7&limit=1"]
    assert (
        "8         2026-04-07T12:00:00.000Z  credits.low  hours=24 balance_usd=0.5" in outcome.out
    )
    assert "Next: moorage events --after 8" in outcome.out
    assert (await terminal.run("events", "--json")).document == page


def signed_receipt(key: str, **changes: str) -> dict[str, Any]:
    """A receipt as any library of wallets signs it."""
    kinds = {"host": "string", "issuer": "string", "payer": "address", "payee": "address"}
    kinds |= {"chainId": "uint256", "token": "address", "symbol": "string", "decimals": "uint256"}
    kinds |= {"amount": "uint256", "creditedMicroUsd": "uint256", "transaction": "bytes32"}
    kinds |= {"logIndex": "uint256", "blockNumber": "uint256", "blockHash": "bytes32"}
    kinds |= {"creditedAtMs": "uint256", "status": "string", "finality": "string"}
    kinds |= {"refunded": "uint256", "refunds": "bytes32[]", "issuedAtMs": "uint256"}
    message: dict[str, Any] = dict.fromkeys(kinds, "7")
    message |= dict.fromkeys(("payer", "payee", "token"), USDC)
    message |= dict.fromkeys(("transaction", "blockHash"), PAID)
    message |= {"host": "gateway.example", "issuer": "Example Ltd", "symbol": "USDC"}
    message |= {"status": "credited", "finality": "safe", "amount": "2500000", "decimals": "6"}
    message |= {"refunds": [], "refunded": "0", "creditedAtMs": "1775556000000"} | changes
    types = {
        "EIP712Domain": [{"name": name, "type": "string"} for name in ("name", "version")],
        "Receipt": [{"name": name, "type": kind} for name, kind in kinds.items()],
    }
    typed = {"types": types, "primaryType": "Receipt", "message": message}
    typed["domain"] = {"name": "Moorage receipt", "version": "1"}
    signed = Account.sign_message(encode_typed_data(full_message=typed), key)
    return typed | {"signature": "0x" + signed.signature.hex(), "signer": USDC}


async def test_receipt_is_shown_and_one_that_the_gateway_did_not_sign_is_refused(
    terminal: Terminal,
) -> None:
    own, another = "0x" + "46" * 32, "0x" + "47" * 32
    key = {"address": Account.from_key(own).address, "since_ms": 1, "until_ms": None}
    other, path = terminal.gateway.other, f"/agent/payments/{PAID}/receipt"
    known = {"host": "gateway.example", "keys": [key]}
    other["GET", "/.well-known/moorage-receipts.json"] = [JSONResponse(known)]
    for signer, code in ((own, 0), (another, 2)):
        receipts = {"receipts": [signed_receipt(signer)]}
        other["GET", path] = [JSONResponse(receipts)]
        shown = await terminal.run("receipt", PAID)
        assert "2.500000 USDC from" in shown.out
        assert "credited by Example Ltd at 2026-04-07T10:00:00.000Z, credited, safe" in shown.out
        checked = await terminal.run("receipt", PAID, "--verify", "--json")
        assert checked.code == code, checked.err
        assert checked.document == (receipts if code == 0 else checked.document)
    assert checked.document["code"] == "receipt_invalid"
