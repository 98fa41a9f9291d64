"""Clients that mean harm, over real HTTP: after each, the gateway is as it was."""

import asyncio
import base64
import contextlib
import io
import json
import random
import re
import struct
import time
import zipfile
import zlib
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from support.clients.raw_http import RawAnswer, RawConnection, chunked, connected, request
from support.clients.wallet import HELLO, Wallet, call, deploy_body, fresh_name
from support.gateway.gateway_fixture import DevGateway, running

pytestmark = pytest.mark.root

MIB = 1024 * 1024
DRY_RUN = ("X-Dry-Run", "true")
HEALTHY_SECONDS = 30.0
"""On a machine that others share."""

MOST_GROWTH_MIB = 64
PROBLEM = re.compile(r'"level": ?"(error|critical)"|Traceback|"exception"')


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevGateway]:
    directory = tmp_path_factory.mktemp("hostile")
    with running(directory, requests_per_minute="100000", payment_wait_seconds="0") as started:
        yield started


@pytest.fixture(scope="module")
def files_before() -> list[int]:
    """How many files the gateway had open before each test."""
    return []


@pytest.fixture(autouse=True)
async def unharmed(gateway: DevGateway, files_before: list[int]) -> AsyncIterator[None]:
    """What every test here asserts at its end."""
    # Fewer than before, while a process that reads uploads is being replaced.
    files_before.append(open_files(gateway))
    files, memory, logged = max(files_before), memory_mib(gateway), len(gateway.log)
    yield
    started = time.monotonic()
    assert (await call(gateway, "GET", "/health")).status == 200
    assert time.monotonic() - started < HEALTHY_SECONDS
    async with asyncio.timeout(60):
        while open_files(gateway) > files or uploads(gateway):
            await asyncio.sleep(0.05)
    assert memory_mib(gateway) < memory + MOST_GROWTH_MIB
    assert PROBLEM.findall(gateway.log[logged:]) == []


def open_files(gateway: DevGateway) -> int:
    """How many it has open, but for its connections to the chains' nodes: those come and go."""
    own = connections_to_nodes(gateway)
    held = []
    for entry in Path(f"/proc/{gateway.pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            held.append(str(entry.readlink()))
    return sum(name not in own for name in held)


def connections_to_nodes(gateway: DevGateway) -> set[str]:
    urls = [chain["rpc_url"] for chain in gateway.info["chains"].values()]
    nodes = {f"0100007F:{int(url.rpartition(':')[2]):04X}" for url in urls}
    rows = Path(f"/proc/{gateway.pid}/net/tcp").read_text().splitlines()[1:]
    return {f"socket:[{row[9]}]" for row in map(str.split, rows) if row[2] in nodes}


def memory_mib(gateway: DevGateway) -> float:
    status = Path(f"/proc/{gateway.pid}/status").read_text(errors="replace")
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024


def uploads(gateway: DevGateway) -> list[Path]:
    return [path for name in ("spool", "sources") for path in (gateway.data_dir / name).iterdir()]


@pytest.fixture
def wallet(gateway: DevGateway) -> Wallet:
    return Wallet(gateway)


def upload_head(wallet: Wallet, *headers: tuple[str, str], closes: bool = False) -> bytes:
    """A deploy's head, signed; what it says about its body is in `headers`."""
    end = [("Connection", "close")] if closes else []
    return request("POST", "/agent/deploy", [*wallet.signed().items(), DRY_RUN, *headers, *end])


async def post(wallet: Wallet, body: bytes) -> RawAnswer:
    """A dry run of a deploy with this body."""
    async with connected(wallet.gateway.url) as connection:
        await connection.send(upload_head(wallet, ("Content-Length", str(len(body)))), body)
        return await connection.answer()


# Bodies that never come, or come wrong


async def test_five_hundred_silent_clients_keep_nobody_waiting(gateway: DevGateway) -> None:
    async with AsyncExitStack() as stack:
        for _ in range(500):
            connection = await stack.enter_async_context(connected(gateway.url))
            await connection.send(b"GET /health HTTP/1.1\r\nX-Slow: ")

        started = time.monotonic()
        assert (await call(gateway, "GET", "/health")).status == 200
        assert time.monotonic() - started < HEALTHY_SECONDS


async def test_clients_that_leave_amid_their_upload_leave_nothing(wallet: Wallet) -> None:
    body = json.dumps(deploy_body(fresh_name(), {"big.bin": "x" * 3 * MIB})).encode()
    async with AsyncExitStack() as stack:
        for _ in range(20):
            connection = await stack.enter_async_context(connected(wallet.gateway.url))
            head = upload_head(wallet, ("Content-Length", str(len(body))))
            await connection.send(head, body[: 2 * MIB])
        async with asyncio.timeout(60):
            while len(uploads(wallet.gateway)) < 20:
                await asyncio.sleep(0.02)


@pytest.mark.parametrize("length", [b"1", b"500"])
async def test_body_longer_than_it_says_is_not_taken_on(wallet: Wallet, length: bytes) -> None:
    body = json.dumps(deploy_body(fresh_name(), {"index.js": "x" * 5000})).encode()
    async with connected(wallet.gateway.url) as connection:
        await connection.send(upload_head(wallet, ("Content-Length", length.decode())), body)
        assert (await connection.answer()).status == 400
        assert set(await statuses(connection)) <= {400}


async def test_body_shorter_than_it_says_is_waited_for_and_forgotten(wallet: Wallet) -> None:
    async with connected(wallet.gateway.url) as connection:
        await connection.send(upload_head(wallet, ("Content-Length", "100000")), b"{")
        connection.writer.write_eof()
        assert await connection.closed() == b""


@pytest.mark.parametrize("closes", [True, False])
async def test_sixty_megabytes_are_refused_before_they_are_read(
    wallet: Wallet, closes: bool
) -> None:
    async with connected(wallet.gateway.url) as connection:
        head = upload_head(wallet, ("Content-Length", str(60_000_000)), closes=closes)
        await connection.send(head, b"x" * MIB)

        answer = await connection.answer()
    assert (answer.status, answer.json["code"]) == (413, "body_too_large")


async def test_chunks_beyond_the_limit_are_refused_when_they_reach_it(wallet: Wallet) -> None:
    chunk = b"%x\r\n%s\r\n" % (MIB, b"x" * MIB)
    start = b'{"upload": {"type": "zip", "data": "'
    async with connected(wallet.gateway.url) as connection:
        await connection.send(upload_head(wallet, ("Transfer-Encoding", "chunked"), closes=True))
        await connection.send(b"%x\r\n%s\r\n" % (len(start), start))
        for _ in range(60):
            await connection.send(chunk)
        answer = await connection.answer()

    assert (answer.status, answer.json["code"]) == (413, "body_too_large")


async def test_honest_chunks_are_a_body_like_any_other(wallet: Wallet) -> None:
    body = json.dumps(deploy_body(fresh_name(), HELLO)).encode()
    async with connected(wallet.gateway.url) as connection:
        head = upload_head(wallet, ("Transfer-Encoding", "chunked"))
        await connection.send(head, chunked(body, size=7))
        assert (await connection.answer()).status == 200


async def test_body_of_a_refused_request_is_never_the_next_one(gateway: DevGateway) -> None:
    inner = request("DELETE", "/agent/projects/smuggled")
    async with connected(gateway.url) as connection:
        await connection.send(
            request("POST", "/agent/deploy", body=inner), request("GET", "/health")
        )
        assert [(await connection.answer()).status for _ in range(2)] == [401, 200]

    assert "smuggled" not in gateway.log


async def test_client_that_expects_100_gets_it_only_for_a_body_that_is_wanted(
    wallet: Wallet,
) -> None:
    body = json.dumps(deploy_body(fresh_name(), HELLO)).encode()
    expect = ("Expect", "100-continue")
    async with connected(wallet.gateway.url) as connection:
        await connection.send(upload_head(wallet, expect, ("Content-Length", str(len(body)))))
        interim = await connection.interim()
        await connection.send(body)
        assert (interim, (await connection.answer()).status) == (100, 200)

        await connection.send(request("POST", "/agent/deploy", [expect], b""))
        assert (await connection.answer()).status == 401


# Bodies that cost more than they weigh


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 1_000_000,
        b'{"a":' * 150_000,
        b'{"uniqueName": ' + b"[" * 900_000 + b"]" * 900_000 + b"}",
        b'{"settings": {' + b",".join(b'"k%d": 1' % n for n in range(50_000)) + b"}}",
        b'{"months": ' + b"9" * 500_000 + b"}",
        b'{"months": 1e999999999}',
        b'{"uniqueName": "' + b"\\u0000" * 100_000 + b'"}',
        b'"' + b"\\" * 999_999,
        b"\xff" * 1000,
        b"\xef\xbb\xbf{}",
        b"{}\0",
        b"",
        b"null",
        b"NaN",
        b'{"uniqueName": "abcd", "uniqueName": "efgh"}',
        b'{"uniqueName": "\\ud800abc"}',
    ],
    ids=lambda body: body[:16].decode("latin-1"),
)
async def test_json_that_is_none_or_too_much_is_refused_at_once(
    wallet: Wallet, body: bytes
) -> None:
    started = time.monotonic()
    answer = await post(wallet, body)

    assert answer.status in {400, 413}
    assert answer.json["code"] in {"invalid_field", "invalid_request", "body_too_large"}
    assert len(answer.body) < 2000
    assert time.monotonic() - started < HEALTHY_SECONDS


async def test_hundred_thousand_files_are_refused(wallet: Wallet) -> None:
    files = [{"path": f"{number}", "content": ""} for number in range(100_000)]
    body = deploy_body(fresh_name(), {}) | {"upload": {"type": "files", "files": files}}

    answer = await post(wallet, json.dumps(body).encode())

    assert answer.status in {400, 413}


def zip_upload(archive: bytes) -> bytes:
    upload = {"type": "zip", "data": base64.b64encode(archive).decode()}
    return json.dumps(deploy_body(fresh_name(), {}) | {"upload": upload}).encode()


def archive_of(*members: tuple[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return packed.getvalue()


def quoted_bomb(copies: int) -> bytes:
    """Many directory entries over one compressed kernel, as the densest bombs have."""
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
    plain = b"\0" * MIB
    kernel = deflate.compress(plain) + deflate.flush()
    sizes = (zlib.crc32(plain), len(kernel), len(plain))
    local = struct.pack("<4s5H3I2H", b"PK\3\4", 20, 0, 8, 0, 0, *sizes, 1, 0) + b"a" + kernel
    directory = b"".join(
        struct.pack("<4s6H3I5H2I", b"PK\1\2", 20, 20, 0, 8, 0, 0, *sizes, 1, 0, 0, 0, 0, 0, 0)
        + b"a"
        for _ in range(copies)
    )
    end = struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, copies, copies, len(directory), len(local), 0)
    return local + directory + end


def symlink() -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        member = zipfile.ZipInfo("index.js")
        member.external_attr = 0o120777 << 16
        archive.writestr(member, "/etc/passwd")
    return packed.getvalue()


BOMBS: dict[str, Callable[[], bytes]] = {
    "zeros": lambda: archive_of(("index.js", b"\0" * 100 * MIB)),
    "many zeros": lambda: archive_of(*((f"{n}.js", b"\0" * MIB) for n in range(300))),
    "overlapping": lambda: quoted_bomb(5_000),
    "many entries": lambda: archive_of(*((f"{n}", b"") for n in range(30_000))),
    "deep": lambda: archive_of(("a/" * 500 + "index.js", b"")),
    "upwards": lambda: archive_of(("../../../../etc/cron.d/x", b"")),
    "absolute": lambda: archive_of(("/etc/passwd", b"")),
    "backslash": lambda: archive_of(("..\\..\\x", b"")),
    "drive": lambda: archive_of(("C:/x", b"")),
    "twice": lambda: archive_of(("a.js", b"1"), ("A.js", b"2")),
    "file and folder": lambda: archive_of(("a", b""), ("a/b", b"")),
    "link": symlink,
    "cut": lambda: archive_of(("index.js", b"x" * 5000))[:-10],
    "nothing": archive_of,
    "no archive": lambda: b"MZ" * 500,
}


@pytest.mark.parametrize("bomb", BOMBS)
async def test_archives_that_are_traps_are_a_400(wallet: Wallet, bomb: str) -> None:
    body = zip_upload(BOMBS[bomb]())
    started = time.monotonic()
    answer = await post(wallet, body)

    assert (answer.status, answer.json["code"]) == (400, "upload_invalid")
    assert time.monotonic() - started < HEALTHY_SECONDS


async def test_archive_within_an_archive_is_just_a_file(wallet: Wallet) -> None:
    inner = archive_of(("index.js", b"\0" * 200_000))

    answer = await post(wallet, zip_upload(archive_of(("index.js", b""), ("x.zip", inner))))

    assert answer.status == 200


# Heads


@pytest.mark.parametrize(
    "head",
    [
        request("GET", "/health", [("X-Long", "a" * 100_000)]),
        request("GET", "/health", [(f"X-{n}", "a") for n in range(1000)]),
        request("GET", "/" + "a" * 100_000),
    ],
)
async def test_heads_too_large_are_a_431(gateway: DevGateway, head: bytes) -> None:
    async with connected(gateway.url) as connection:
        await connection.send(head)
        answer = await connection.answer()

    assert (answer.status, answer.json["code"]) == (431, "headers_too_large")


@pytest.mark.parametrize(
    "headers",
    [
        [("X-Wallet-Address", b"\xff\xfe"), ("X-Nonce", b"\x80")],
        [("X-Signature", b"\xc3\xa9" * 65)],
        [("X-Timestamp", "9" * 10_000)],
        [("X-Timestamp", b"\xd9\xa1\xd9\xa2")],  # digits, but not ours
        [("X-Timestamp", "1e12"), ("X-Nonce", "\t")],
        [("X-Nonce", "0" * 60_000)],
    ],
)
async def test_header_values_that_mean_nothing_are_a_401(
    wallet: Wallet, headers: list[tuple[str, str | bytes]]
) -> None:
    changed = {**wallet.signed(), **dict(headers)}
    async with connected(wallet.gateway.url) as connection:
        await connection.send(request("GET", "/agent/projects", changed.items()))
        answer = await connection.answer()

    assert answer.status == 401
    assert answer.json["code"] in {"timestamp_expired", "signature_invalid", "auth_missing"}


async def test_identity_sent_twice_is_the_first_and_never_a_mixture(wallet: Wallet) -> None:
    other = Wallet(wallet.gateway)
    mine, foreign = [*wallet.signed().items()], [*other.signed().items()]
    async with connected(wallet.gateway.url) as connection:
        await connection.send(request("GET", "/agent/projects", mine + foreign))
        answer = await connection.answer()
        assert (answer.status, answer.json["wallet"]) == (200, wallet.address)

        mixed = [*foreign[:1], *wallet.signed().items()]
        await connection.send(request("GET", "/agent/projects", mixed))
        assert (await connection.answer()).status == 401


async def test_forwarding_headers_of_strangers_change_nothing(tmp_path: Path) -> None:
    with running(tmp_path / "data", requests_per_minute="5") as strict:
        answers = [
            await call(strict, "GET", "/agent/chains", headers={"X-Forwarded-For": f"10.0.0.{n}"})
            for n in range(6)
        ]

    assert [answer.status for answer in answers] == [200] * 5 + [429]


async def test_pipelined_requests_are_answered_in_their_order(wallet: Wallet) -> None:
    async with connected(wallet.gateway.url) as connection:
        for _ in range(200):
            await connection.send(
                request("GET", "/health"),
                request("GET", "/agent/projects", wallet.signed().items()),
                request("HEAD", "/health"),
                request("GET", "/nothing"),
            )
        for _ in range(200):
            statuses = [
                (await connection.answer()).status,
                (await connection.answer()).status,
                (await connection.answer(to="HEAD")).status,
                (await connection.answer()).status,
            ]
            assert statuses == [200, 200, 200, 404]


async def test_old_clients_are_answered_and_let_go(gateway: DevGateway) -> None:
    async with connected(gateway.url) as connection:
        await connection.send(b"GET /health HTTP/1.0\r\n\r\n")

        assert (await connection.answer()).json == {"status": "ok"}
        assert await connection.closed() == b""


NOBODYS = "7d444840-9dc0-41d1-b245-5ffdce74fad2"


@pytest.mark.parametrize(
    "identity", ["%00", "%2e%2e", "%ff", "a" * 8000, NOBODYS, "' OR 1=1 --", "%0d%0aX: 1"]
)
async def test_ids_of_nothing_are_a_404(wallet: Wallet, identity: str) -> None:
    path = f"/agent/projects/{identity.replace(' ', '%20')}"
    async with connected(wallet.gateway.url) as connection:
        await connection.send(request("DELETE", path, wallet.signed().items()))
        answer = await connection.answer()

    assert (answer.status, answer.json["code"]) == (404, "project_not_found")


# Everything at once


WEIRD: list[Any] = [
    *(None, True, False, 0, -1, 1.5, 1e308, 10**40, [], {}, [[]], {"a": 1}),
    *("", "a" * 300, "\0", "🚀", "../x", "%00", "\u202e", "x\ny", "0x", "arbitrum", "\u0130"),
]


def places(document: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if path:
        yield path
    if isinstance(document, dict | list):
        members = document.items() if isinstance(document, dict) else enumerate(document)
        for key, value in members:
            yield from places(value, (*path, key))


def mutated(document: Any, chance: random.Random) -> Any:
    document = json.loads(json.dumps(document))
    for _ in range(chance.randint(1, 3)):
        *path, last = chance.choice(list(places(document)) or [("uniqueName",)])
        place = document
        for key in path:
            place = place[key]
        if chance.random() < 0.15:
            del place[last]
        else:
            place[last] = chance.choice(WEIRD)
    return document


def scrambled(data: bytes, chance: random.Random, *, within: int) -> bytes:
    scrambled = bytearray(data)
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(min(within, len(scrambled)))
        scrambled[at : at + chance.randint(0, 3)] = chance.randbytes(chance.randint(0, 2))
    return bytes(scrambled)


FULL = deploy_body("app-fuzz", HELLO, description="d", months=2) | {
    "settings": {
        "port": 3000,
        "runtime": "node",
        "useBuildAI": True,
        "hasDockerfile": False,
        "buildCommand": "a",
        "runCommand": "b",
        "installCommand": None,
        "framework": "next",
        "directoryPath": "",
        "buildDir": "dist",
        "runEnvs": {"A": "b"},
        "buildVars": {"C": "d"},
    }
}


@pytest.mark.parametrize("seed", range(4))
async def test_mutated_bodies_are_told_what_is_wrong(wallet: Wallet, seed: int) -> None:
    chance = random.Random(seed)
    for _ in range(100):
        body = json.dumps(mutated(FULL, chance)).encode()
        if chance.random() < 0.2:
            body = scrambled(body, chance, within=len(body))

        answer = await post(wallet, body)

        assert answer.status in {200, 400}, (body, answer)
        if answer.status == 400:
            assert {"error", "code", "retryable"} <= set(answer.json), answer


@pytest.mark.parametrize("seed", range(4))
async def test_scrambled_requests_are_never_a_5xx(wallet: Wallet, seed: int) -> None:
    chance = random.Random(seed)
    body = json.dumps(FULL).encode()
    for _ in range(50):
        head = upload_head(wallet, ("Content-Length", str(len(body))), closes=True)
        async with connected(wallet.gateway.url) as connection:
            await connection.send(scrambled(head, chance, within=len(head)), body)
            connection.writer.write_eof()
            for status in await statuses(connection):
                assert status < 500


async def statuses(connection: RawConnection) -> list[int]:
    """Of all answers until the connection closes; there may be none."""
    said = await connection.closed()
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", said)]
