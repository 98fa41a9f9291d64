"""A guestbook is given a volume: an owner who follows the printed advice loses no entry."""

import asyncio
import re
from collections.abc import Iterator
from typing import Any

import pytest

from support.clients.wallet import Answer, Wallet, deploy_body, fresh_name
from support.gateway.gateway_fixture import DevGateway, running

pytestmark = pytest.mark.root

NODE = """\
const fs = require('fs'), path = require('path'), file = 'FILE';
require('http').createServer((request, response) => {
  let entries = [];
  try { entries = JSON.parse(fs.readFileSync(file, 'utf8')); } catch {}
  if (request.url.startsWith('/sign?')) {
    entries.push(request.url.slice(6));
    fs.mkdirSync(path.dirname(file), {recursive: true});
    WRITE
  }
  response.end(entries.join(' '));
}).listen(process.env.PORT);
"""
PLAINLY = NODE.replace("WRITE", "fs.writeFileSync(file, JSON.stringify(entries));")
BY_RENAMING = NODE.replace(
    "WRITE", "fs.writeFileSync(file + '.new', JSON.stringify(entries));"
    "fs.renameSync(file + '.new', file);"
)  # fmt: skip
SQLITE = """\
import http.server, os, sqlite3
db = sqlite3.connect('FILE')
db.execute('create table if not exists entries (text)')
class Book(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path.startswith('/sign?'):
            with db:
                db.execute('insert into entries values (?)', (self.path[6:],))
        page = ' '.join(row[0] for row in db.execute('select text from entries')).encode()
        self.send_response(200)
        self.send_header('Content-Length', str(len(page)))
        self.end_headers()
        self.wfile.write(page)
http.server.HTTPServer(('', int(os.environ['PORT'])), Book).serve_forever()
"""
BOOKS = {
    "a file": ({"index.js": PLAINLY}, "entries.json"),
    "a directory": ({"index.js": PLAINLY}, "data/store/entries.json"),
    "a renamed file": ({"index.js": BY_RENAMING}, "entries.json"),
    "a file of the upload": ({"index.js": PLAINLY, "entries.json": "[]"}, "entries.json"),
    "a database": ({"main.py": SQLITE}, "entries.db"),
}
STEPS = ("volume held", "volume exported", "volume moved", "health", "ready", "volume counts")


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevGateway]:
    with running(tmp_path_factory.mktemp("guestbook"), requests_per_minute="100000") as started:
        yield started


@pytest.fixture
async def wallet(gateway: DevGateway) -> Wallet:
    return await Wallet(gateway).fund()


def book(kind: str, file: str = "") -> dict[str, str]:
    files, usual = BOOKS[kind]
    return {path: text.replace("FILE", file or usual) for path, text in files.items()}


async def signed(wallet: Wallet, name: str, *entries: str) -> None:
    for entry in entries:
        status, _ = await wallet.visit(name, f"/sign?{entry}")
        assert status == 200


async def opened(wallet: Wallet, kind: str = "a file") -> tuple[str, Answer]:
    """A guestbook without a volume, with two entries."""
    name = fresh_name()
    deployed = await wallet.deploy_paid(name, book(kind))
    assert (await wallet.settled(deployed))["status"] == "ready"
    await signed(wallet, name, "anna", "ben")
    assert await wallet.visit(name) == (200, "anna ben")
    return name, deployed


def told(answer: Answer, code: str = "files_written") -> str:
    return next(str(it["message"]) for it in answer.body["warnings"] if it["code"] == code)


def advised(message: str) -> tuple[str, str]:
    """The file that the advice names, and where it says that it will be."""
    found = re.search(r"(/app/\S+) is (/data/\S+)\.", message)
    assert found is not None, message
    assert "settings.volume: true" in message
    return found[1], found[2]


async def with_volume(wallet: Wallet, name: str, files: dict[str, str], **more: Any) -> Answer:
    body = deploy_body(name, files, settings={"volume": True}, **more)
    return await wallet.call("POST", "/agent/deploy", json=body)


@pytest.mark.parametrize("kind", list(BOOKS))
async def test_entries_are_on_the_page_after_the_printed_advice_was_followed(
    wallet: Wallet, kind: str
) -> None:
    name, _ = await opened(wallet, kind)
    quote = await wallet.call("POST", "/agent/quote", json=deploy_body(name, book(kind)))
    file, moved = advised(told(quote))
    assert file == f"/app/{BOOKS[kind][1]}"

    deployed = await with_volume(wallet, name, book(kind, moved))
    assert deployed.status == 200, deployed.body
    assert "This deploy takes them along into the new volume" in told(deployed)
    assert "settings.volume" not in told(deployed)
    await signed(wallet, name, "carl")  # while it is deployed
    status = await wallet.settled(deployed)
    assert status["status"] == "ready", status
    assert await wallet.visit(name) == (200, "anna ben carl")
    await signed(wallet, name, "dora")
    again = await wallet.deploy(name, book(kind, moved))
    assert (await wallet.settled(again))["status"] == "ready"
    assert await wallet.visit(name) == (200, "anna ben carl dora")


async def test_no_entry_is_refused_or_lost_while_the_volume_begins(wallet: Wallet) -> None:
    name, _ = await opened(wallet)
    made, over = ["anna", "ben"], asyncio.Event()

    async def visit_on() -> None:
        while not over.is_set():
            entry = f"e{len(made)}"
            assert (await wallet.visit(name, f"/sign?{entry}"))[0] == 200
            made.append(entry)

    visitor = asyncio.create_task(visit_on())
    deployed = await with_volume(wallet, name, book("a file", "/data/entries.json"))
    assert (await wallet.settled(deployed))["status"] == "ready"
    over.set()
    await visitor
    assert await wallet.visit(name) == (200, " ".join(made))
    assert len(made) > 5


async def test_version_that_fails_leaves_the_one_before_with_its_files(wallet: Wallet) -> None:
    name, _ = await opened(wallet)
    ill = "require('fs').writeFileSync('/data/entries.json', '[]');" + book("a file")["index.js"]
    ill = ill.replace("response.end(entries", "response.statusCode = 500; response.end(entries")
    failed = await with_volume(wallet, name, {"index.js": ill})
    assert (await wallet.settled(failed))["status"] == "failed"
    await wallet.until_answers(name)
    assert await wallet.visit(name) == (200, "anna ben")
    await signed(wallet, name, "carl")

    deployed = await wallet.deploy(name, book("a file", "/data/entries.json"))
    assert (await wallet.settled(deployed))["status"] == "ready"
    assert await wallet.visit(name) == (200, "anna ben carl")


@pytest.mark.parametrize("step", STEPS)
async def test_gateway_that_is_killed_at_any_step_leaves_all_entries(
    gateway: DevGateway, wallet: Wallet, step: str
) -> None:
    name, _ = await opened(wallet)
    gateway.stop()
    gateway.start(crash_at=step)
    await wallet.until_answers(name)
    deployed = await with_volume(wallet, name, book("a file", "/data/entries.json"))
    gateway.wait_for_crash()
    gateway.start()
    assert (await wallet.settled(deployed))["status"] == "ready"
    await wallet.until_answers(name)
    assert await wallet.visit(name) == (200, "anna ben")
    await wallet.call("DELETE", f"/agent/projects/{name}")


async def test_volume_that_the_code_does_not_use_is_refused_before_anything_begins(
    wallet: Wallet,
) -> None:
    name, first = await opened(wallet)
    for ask in ("/agent/deploy", "/agent/quote"):
        body = deploy_body(name, book("a file"), settings={"volume": True})
        refused = await wallet.call("POST", ask, json=body)
        assert (refused.status, refused.body["code"]) == (409, "files_would_be_lost")
        assert refused.body["paths"] == ["/app/entries.json"]
        assert "/app/entries.json is /data/entries.json in the new volume" in refused.body["error"]
    changed = await wallet.call("PATCH", f"/agent/projects/{name}", json={"volume": True})
    assert (changed.status, changed.body["code"]) == (409, "files_would_be_lost")
    shown = await wallet.call("GET", f"/agent/projects/{name}")
    assert shown.body["volume"] is False
    assert shown.body["servingDeploymentId"] == first.body["deploymentId"]
    assert await wallet.visit(name) == (200, "anna ben")

    asked = {"volume": True, "runEnvs": {"BOOK": "/data/entries.json"}}
    patched = await wallet.call("PATCH", f"/agent/projects/{name}", json=asked)
    assert (await wallet.settled(patched))["status"] == "ready"
    assert await wallet.visit(name) == (200, "anna ben")


async def test_redeploy_without_a_volume_says_what_is_lost_and_loses_nothing_that_it_must_not(
    wallet: Wallet,
) -> None:
    name, _ = await opened(wallet)
    body = deploy_body(name, book("a file") | {"more.txt": "x"})
    kept = await wallet.call("POST", "/agent/deploy", json={**body, "discard_written": False})
    assert (kept.status, kept.body["code"]) == (409, "files_would_be_lost")
    assert kept.body["paths"] == ["/app/entries.json"]
    assert kept.body["next_actions"]
    wrong = await wallet.call("POST", "/agent/deploy", json={**body, "discard_written": "yes"})
    assert (wrong.status, wrong.body["field"]) == (400, "discard_written")
    assert await wallet.visit(name) == (200, "anna ben")

    deployed = await wallet.call("POST", "/agent/deploy", json=body)
    assert deployed.status == 200  # as for clients that know nothing of it
    assert "A rollback brings them back" in told(deployed)
    assert (await wallet.settled(deployed))["status"] == "ready"
    assert await wallet.visit(name) == (200, "")
    rolled = await wallet.call("POST", f"/agent/projects/{name}/rollback", json={})
    assert (await wallet.settled(rolled))["status"] == "ready"
    assert await wallet.visit(name) == (200, "anna ben")
