"""Real receivers: what counts as delivered, who holds up whom, where nothing goes, by which TLS."""

import asyncio
import json
import os
import re
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from standardwebhooks import Webhook as StandardWebhook

from moorage.auth.rate_limit import MemoryRateLimiter
from moorage.clock import SystemClock
from moorage.events.delivery import (
    MAX_AGE_MS,
    PAUSES_MS,
    DeliveryWorker,
    Destinations,
    NotDelivered,
    Sender,
    SystemResolver,
    is_own_address,
)
from moorage.events.signature import new_secret, signed_headers
from moorage.events.webhooks import Webhooks
from moorage.records.event import DeliveryStatus, EventKind
from moorage.storage import events
from moorage.storage.database import Database
from moorage.storage.vault import Vault
from support.books.records_fixture import ALICE, GATEWAY, fund
from support.gateway.clock import MovableClock
from support.gateway.receiver import Answer, Receiver, receiving
from support.gateway.waiting import seen_through, until

POST_ALL = """
import asyncio, sys
from moorage.events.delivery import Destinations
from moorage.events.delivery import NotDelivered, Sender

async def resolve(host):
    return ["127.0.0.1"]

async def main(urls):
    sender = Sender(destinations=Destinations(allow=["127.0.0.0/8"]), resolve=resolve)
    for url in urls:
        try:
            print(await sender.post(url, headers={}, body=b"{}"))
        except NotDelivered as failure:
            print(failure)
    await sender.close()

asyncio.run(main(sys.argv[1:]))
"""


def make_certificate(directory: Path, host: str) -> tuple[Path, Path]:
    """A certificate for `host` that is its own authority, and its key."""
    certificate, key = directory / "certificate.pem", directory / "key.pem"
    made_as = f"-x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN={host}"
    named = f"-addext subjectAltName=DNS:{host}"
    subprocess.run(
        ["openssl", "req", *made_as.split(), *named.split(), "-keyout", key, "-out", certificate],
        check=True,
        capture_output=True,
    )
    return certificate, key


async def post_trusting(certificate: Path, *urls: str) -> list[str]:
    """What a sender says of each URL on a machine whose one authority is `certificate`."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        POST_ALL,
        *urls,
        env=os.environ | {"SSL_CERT_FILE": str(certificate)},
        stdout=asyncio.subprocess.PIPE,
    )
    out, _ = await asyncio.wait_for(process.communicate(), timeout=60)
    return out.decode().splitlines()


async def test_event_goes_to_the_certificates_host_and_to_no_other(tmp_path: Path) -> None:
    certificate, key = make_certificate(tmp_path, "hooks.example")
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(certificate, key)

    async with receiving(tls=tls) as receiver:
        valid, other = await post_trusting(
            certificate,
            f"https://hooks.example:{receiver.port}/",
            f"https://other.example:{receiver.port}/",
        )

    assert valid == "200"
    assert "TLS handshake failed" in other
    assert [headers["host"] for headers, _ in receiver.got] == [f"hooks.example:{receiver.port}"]


async def test_certificate_of_an_unknown_authority_is_told_nothing(tmp_path: Path) -> None:
    (tmp_path / "known").mkdir()
    known, _ = make_certificate(tmp_path / "known", "authority.example")
    certificate, key = make_certificate(tmp_path, "hooks.example")
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(certificate, key)

    async with receiving(tls=tls) as receiver:
        (said,) = await post_trusting(known, f"https://hooks.example:{receiver.port}/")

    assert "TLS handshake failed" in said
    assert receiver.got == []


DOCUMENT = (Path(__file__).parents[2] / "docs" / "use" / "webhooks.md").read_text()
BODY = '{"data":{"name":"café"}}'.encode()
CALL_VERIFY = (
    "\nconst [secret, headers, body] = JSON.parse(require('fs').readFileSync(0));"
    "\nconsole.log(verify(secret, headers, Buffer.from(body)));"
)

Verify = Callable[[str, dict[str, str], bytes], bool]


def snippet(language: str) -> str:
    (text,) = re.findall(rf"```{language}\n(.*?)```", DOCUMENT, re.DOTALL)
    return str(text)


def in_python(secret: str, headers: dict[str, str], body: bytes) -> bool:
    names: dict[str, Any] = {}
    exec(compile(snippet("python"), "webhooks.md", "exec"), names)
    return bool(names["verify"](secret, headers, body))


def in_node(secret: str, headers: dict[str, str], body: bytes) -> bool:
    done = subprocess.run(
        ["node", "-e", snippet("javascript") + CALL_VERIFY],
        input=json.dumps([secret, headers, body.decode()]),
        capture_output=True,
        text=True,
        check=True,
    )
    return {"true": True, "false": False}[done.stdout.strip()]


@pytest.mark.parametrize("verify", [in_python, in_node])
def test_receivers_code_takes_what_is_signed_and_nothing_else(verify: Verify) -> None:
    secret, now = new_secret(), int(time.time())

    def signed(at: int) -> dict[str, str]:
        return signed_headers(secret=secret, message_id="evt_1", timestamp_seconds=at, body=BODY)

    assert verify(secret, signed(now), BODY)
    rotated = signed(now)
    rotated["webhook-signature"] = "v1,AAAA " + rotated["webhook-signature"]
    assert verify(secret, rotated, BODY)
    assert not verify(secret, signed(now), BODY + b" ")
    assert not verify(new_secret(), signed(now), BODY)
    assert not verify(secret, signed(now - 600), BODY)


def test_every_type_of_event_has_a_row() -> None:
    assert set(re.findall(r"^\| `(\w+\.\w+)` \|", DOCUMENT, re.MULTILINE)) == set(EventKind)


def test_pauses_are_the_ones_that_are_made() -> None:
    (listed,) = re.findall(r"tried again after\s(.*?), then every\s+(\d+) h, until", DOCUMENT)
    units = {"s": 1000, "min": 60_000, "h": 3_600_000}
    pauses = [int(number) * units[unit] for number, unit in re.findall(r"(\d+) (\w+)", listed[0])]
    assert (*pauses, int(listed[1]) * units["h"]) == PAUSES_MS
    assert 3 * 24 * units["h"] == MAX_AGE_MS


LOOPBACK = ("127.0.0.0/8", "::1/128")
DEV = Destinations(allow=LOOPBACK)
SYSTEM = SystemResolver(at_once=4)


async def resolve_nothing(host: str) -> list[str]:
    raise AssertionError(f"{host} is not to be looked up")


def resolves_to(*addresses: str) -> Callable[[str], Awaitable[list[str]]]:
    async def resolve(_host: str) -> list[str]:
        return list(addresses)

    return resolve


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as made:
        yield made


def status(code: int, **headers: str) -> Answer:
    async def answer(_request: web.Request) -> web.StreamResponse:
        return web.Response(status=code, headers=headers)

    return answer


async def never(_request: web.Request) -> web.StreamResponse:
    await asyncio.Event().wait()
    return web.Response()


async def endless(request: web.Request) -> web.StreamResponse:
    """200, and then a body without end."""
    response = web.StreamResponse()
    await response.prepare(request)
    while True:
        await response.write(b"x" * 65_536)


@pytest.fixture
async def post() -> AsyncIterator[Callable[..., Awaitable[int]]]:
    senders = []

    async def post_once(
        url: str,
        *,
        destinations: Destinations = DEV,
        resolve: Callable[[str], Awaitable[list[str]]] = resolve_nothing,
        timeout_seconds: float = 10.0,
    ) -> int:
        senders.append(
            Sender(destinations=destinations, resolve=resolve, timeout_seconds=timeout_seconds)
        )
        return await senders[-1].post(url, headers={"X-Test": "1"}, body=b"{}")

    yield post_once
    for sender in senders:
        await sender.close()


Post = Callable[..., Awaitable[int]]


# One attempt


async def test_body_of_the_answer_is_not_waited_for(receiver: Receiver, post: Post) -> None:
    receiver.answer = endless
    async with asyncio.timeout(60):
        assert await post(receiver.url, timeout_seconds=120.0) == 200


async def test_redirects_are_answers_not_followed(receiver: Receiver, post: Post) -> None:
    receiver.answer = status(307, Location=f"{receiver.url}/elsewhere")
    assert await post(receiver.url) == 307
    assert len(receiver.got) == 1


async def test_receiver_that_never_answers_is_given_up(receiver: Receiver, post: Post) -> None:
    receiver.answer = never
    with pytest.raises(NotDelivered, match=r"no answer within 0\.2 s"):
        await post(receiver.url, timeout_seconds=0.2)


async def test_name_that_takes_too_long_to_resolve_is_given_up(post: Post) -> None:
    async def slow(_host: str) -> list[str]:
        await asyncio.Event().wait()
        return []

    with pytest.raises(NotDelivered, match="no answer"):
        await post("http://slow.example/", resolve=slow, timeout_seconds=0.2)


async def test_garbage_is_no_answer(post: Post) -> None:
    async def speak(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0-OpenSSH_9.9\r\n")
        writer.close()

    server = await asyncio.start_server(speak, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(NotDelivered, match="no valid HTTP answer"):
            await post(f"http://127.0.0.1:{port}/")


async def test_closed_port_is_no_answer(post: Post) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        with pytest.raises(NotDelivered, match="no valid HTTP answer"):
            await post(f"http://127.0.0.1:{unused.getsockname()[1]}/")


async def test_server_without_a_valid_certificate_gets_nothing(
    receiver: Receiver, post: Post
) -> None:
    url = receiver.url.replace("http://", "https://")
    with pytest.raises(NotDelivered, match="TLS"):
        await post(url)
    assert receiver.got == []


async def test_name_without_addresses_is_said_to_be_unknown(post: Post) -> None:
    async def unknown(_host: str) -> list[str]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    with pytest.raises(NotDelivered, match="cannot be resolved"):
        await post("https://no-such-host.example/", resolve=unknown)


async def test_allowed_name_is_reached_at_the_address_it_has(
    receiver: Receiver, post: Post
) -> None:
    url = f"http://hooks.example:{receiver.port}/hook"
    assert await post(url, resolve=resolves_to("127.0.0.1")) == 200
    assert receiver.got[0][0]["host"] == f"hooks.example:{receiver.port}"


async def test_machines_own_resolver_is_asked(receiver: Receiver, post: Post) -> None:
    assert await post(f"http://localhost:{receiver.port}/hook", resolve=SYSTEM) == 200


@pytest.mark.parametrize(
    "addresses",
    [
        ["127.0.0.1"],
        ["::1"],
        ["::ffff:127.0.0.1"],
        ["64:ff9b::7f00:1"],
        ["169.254.169.254"],
        ["10.0.0.1"],
        ["1.1.1.1", "127.0.0.1"],
        ["2606:4700::1111", "::1"],
    ],
)
@pytest.mark.parametrize("scheme", ["https", "http"])
async def test_name_with_any_address_that_is_not_public_is_not_connected_to(
    receiver: Receiver, post: Post, addresses: list[str], scheme: str
) -> None:
    url = f"{scheme}://inside.example:{receiver.port}/"
    with pytest.raises(NotDelivered, match="not a public one"):
        await post(url, destinations=Destinations(), resolve=resolves_to(*addresses))
    assert receiver.got == []


@pytest.mark.parametrize("bad", ["10.0.0.1", "127.0.0.2", "::1"])
async def test_one_good_address_does_not_excuse_a_bad_one(
    receiver: Receiver, post: Post, bad: str
) -> None:
    allowed = Destinations(allow=["127.0.0.1/32"])
    url = f"http://mixed.example:{receiver.port}/"
    with pytest.raises(NotDelivered, match="not a public one"):
        await post(url, destinations=allowed, resolve=resolves_to("127.0.0.1", bad))
    assert receiver.got == []


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "[::ffff:127.0.0.1]"])
@pytest.mark.parametrize("scheme", ["https", "http"])
async def test_address_written_in_the_url_is_checked_as_well(
    receiver: Receiver, post: Post, host: str, scheme: str
) -> None:
    with pytest.raises(NotDelivered, match="not a public one"):
        await post(f"{scheme}://{host}:{receiver.port}/", destinations=Destinations())
    assert receiver.got == []


async def test_name_that_changes_its_address_is_checked_at_each_attempt(
    receiver: Receiver,
) -> None:
    """DNS rebinding: an address that passed once says nothing about the next."""
    answers = [["127.0.0.1"], ["127.0.0.9"]]
    asked = []

    async def rebinding(host: str) -> list[str]:
        asked.append(host)
        return answers.pop(0)

    sender = Sender(destinations=Destinations(allow=["127.0.0.1/32"]), resolve=rebinding)
    url = f"http://rebinding.example:{receiver.port}/"
    try:
        assert await sender.post(url, headers={}, body=b"{}") == 200
        with pytest.raises(NotDelivered, match="not a public one"):
            await sender.post(url, headers={}, body=b"{}")
    finally:
        await sender.close()
    assert len(asked) == 2  # once an attempt: what is checked is what is connected to
    assert len(receiver.got) == 1


# Many attempts


class PostOffice:
    """Webhooks, outbox and worker over one database."""

    def __init__(self, db: Database, clock: Any, *, timeout_seconds: float = 10.0) -> None:
        self.db = db
        self.clock = clock
        self.webhooks = Webhooks(
            db=db,
            destinations=DEV,
            vault=Vault([bytes(32)]),
            strangers=MemoryRateLimiter(clock=clock),
            clock=clock,
        )
        self.sender = Sender(
            destinations=DEV, resolve=resolve_nothing, timeout_seconds=timeout_seconds
        )
        self.worker = DeliveryWorker(
            db=db,
            sender=self.sender,
            vault=Vault([bytes(32)]),
            at_once=8,
            holder=GATEWAY,
            clock=clock,
        )

    async def tell(self, wallet: str = ALICE, *, times: int = 1) -> None:
        async with self.db.transaction(durable=False) as tx:
            for _ in range(times):
                await events.record(
                    tx,
                    wallet=wallet,
                    kind=EventKind.CREDITS_LOW,
                    data={"hours": 24},
                    now_ms=self.clock.now_ms(),
                )


class working:  # noqa: N801 (reads as `async with working(office)`)
    """The office's worker runs meanwhile."""

    def __init__(self, office: PostOffice) -> None:
        self.office = office

    async def __aenter__(self) -> None:
        self.task = asyncio.create_task(self.office.worker.run())

    async def __aexit__(self, *_: object) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


@pytest.fixture
def office(db: Database) -> PostOffice:
    return PostOffice(db, SystemClock())


async def test_events_arrive_signed_and_in_order(receiver: Receiver, office: PostOffice) -> None:
    webhook = await office.webhooks.set(ALICE, receiver.url)
    await office.tell(times=20)

    async with working(office):
        await until(lambda: len(receiver.got) == 20)

    assert receiver.sequences == list(range(1, 21))
    ids = set()
    for headers, body in receiver.got:
        told = StandardWebhook(webhook.secret).verify(body, headers)
        assert told["type"] == "credits.low"
        assert told["data"] == {"hours": 24}
        assert headers["content-type"] == "application/json"
        ids.add(headers["webhook-id"])
    assert ids == {
        event.id for event in await events.of_wallet(office.db, ALICE, after=0, limit=99)
    }


async def test_slow_receivers_hold_up_nobody_else(receiver: Receiver, db: Database) -> None:
    office = PostOffice(db, SystemClock(), timeout_seconds=600)
    async with receiving() as slow:
        slow.answer = never
        for number in range(7):  # all places but one
            await fund(db, f"0x{number}", 1)
            await office.webhooks.set(f"0x{number}", slow.url)
            await office.tell(f"0x{number}", times=3)
        await office.webhooks.set(ALICE, receiver.url)
        await office.tell(times=10)

        async with working(office):
            await until(lambda: len(receiver.got) == 10)
            await until(lambda: len(slow.got) == 7)

        assert slow.sequences == [2] * 7  # one attempt at a time each


async def test_receivers_that_let_attempts_hang_have_half_of_the_places(
    receiver: Receiver, db: Database
) -> None:
    office = PostOffice(db, SystemClock(), timeout_seconds=600)
    await fund(db, ALICE, 1)
    async with receiving() as slow:
        slow.answer = never
        for number in range(20):  # wallets that never paid
            await office.webhooks.set(f"0x{number}", slow.url)
            await office.tell(f"0x{number}")
        async with working(office):
            await until(lambda: len(slow.got) == 4)
            await office.webhooks.set(ALICE, receiver.url)
            await office.tell(times=10)
            await until(lambda: len(receiver.got) == 10)
            assert len(slow.got) == 4


def test_own_addresses_are_told_from_others() -> None:
    assert is_own_address("127.0.0.1")
    assert not is_own_address("192.0.2.1")
    own = subprocess.run(["hostname", "-I"], check=True, capture_output=True, text=True)
    for address in own.stdout.split():
        assert is_own_address(address)


@pytest.mark.parametrize("code", [301, 307, 400, 404, 429, 500, 503])
async def test_any_other_answer_is_tried_again_before_the_next_event(
    receiver: Receiver, db: Database, code: int
) -> None:
    clock = MovableClock()
    office = PostOffice(db, clock)
    receiver.answer = status(code)
    await office.webhooks.set(ALICE, receiver.url)
    await office.tell(times=2)

    await look(office)
    await look(office)
    assert receiver.sequences == [1]
    standing = await events.delivery_state(db, ALICE)
    assert (standing.status, standing.error) == (DeliveryStatus.PENDING, f"HTTP {code}")
    assert (standing.attempts, standing.waiting) == (1, 2)

    receiver.answer = None
    clock.advance(10_000)
    await look(office)
    await look(office)
    assert receiver.sequences == [1, 1, 2]
    first, second = receiver.got[:2]
    assert first[0]["webhook-id"] == second[0]["webhook-id"]
    stamps = [int(headers["webhook-timestamp"]) for headers, _ in receiver.got[:2]]
    assert stamps[1] - stamps[0] == 10  # it dates the attempt; the body dates the event
    assert first[1] == second[1]
    await office.sender.close()


async def look(office: PostOffice) -> None:
    """One look, whose attempts are seen to their end."""
    await seen_through(office.worker.begin_due())


async def test_gone_removes_the_webhook(receiver: Receiver, office: PostOffice) -> None:
    receiver.answer = status(410)
    await office.webhooks.set(ALICE, receiver.url)
    await office.tell(times=3)

    await look(office)
    await look(office)

    assert receiver.sequences == [1]
    assert await events.webhook_of(office.db, ALICE) is None
    assert (await events.delivery_state(office.db, ALICE)).waiting == 0
    await office.sender.close()


@pytest.mark.parametrize("code", [500, 410])
async def test_failure_at_a_url_that_was_replaced_meanwhile_counts_for_nothing(
    receiver: Receiver, office: PostOffice, code: int
) -> None:
    async with receiving() as old:

        async def replaced(_request: web.Request) -> web.StreamResponse:
            await office.webhooks.set(ALICE, receiver.url)
            return web.Response(status=code)

        old.answer = replaced
        await office.webhooks.set(ALICE, old.url)
        await office.tell()
        await look(office)

        await look(office)

    assert (old.sequences, receiver.sequences) == ([1], [1])
    await office.sender.close()


async def test_what_was_sent_and_not_noted_is_sent_again_after_a_restart(
    receiver: Receiver, office: PostOffice
) -> None:
    receiver.answer = never
    await office.webhooks.set(ALICE, receiver.url)
    await office.tell(times=2)
    async with working(office):
        await until(lambda: receiver.sequences == [1])

    receiver.answer = None
    office = PostOffice(office.db, office.clock)
    async with working(office):
        await until(lambda: receiver.sequences == [1, 1, 2])

    assert receiver.got[0][0]["webhook-id"] == receiver.got[1][0]["webhook-id"]


async def test_redelivery_is_the_same_event_after_those_that_wait(
    receiver: Receiver, office: PostOffice
) -> None:
    await office.webhooks.set(ALICE, receiver.url)
    await office.tell(times=3)
    first = (await events.of_wallet(office.db, ALICE, after=0, limit=1))[0]

    await office.webhooks.redeliver(ALICE, first.id)
    async with working(office):
        await until(lambda: len(receiver.got) == 4)

    assert receiver.sequences == [1, 2, 3, 1]
    assert receiver.got[3][0]["webhook-id"] == first.id
