"""The port of build pods, and Moorage's own programs in these, which use it."""

import asyncio
import gzip
import io
import os
import tarfile
import zlib
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import pytest

from moorage.engines.images.beneath import Beneath
from moorage.engines.images.layer import LayerBounds, Place, write_layer
from moorage.engines.kubernetes.building.exchange import Exchange, Tickets
from moorage.engines.kubernetes.building.pod import fetch, pack
from moorage.engines.kubernetes.building.pod.program import REFUSED, TOO_LARGE, Failed
from support.gateway.waiting import until, until_read

MIB = 1024 * 1024
LIMIT = 4 * MIB


@pytest.fixture
async def exchange() -> AsyncIterator[Exchange]:
    opened = Exchange(host="127.0.0.1", port=0, url="")
    await opened.open()
    yield opened
    await opened.close()


@pytest.fixture
async def tickets(exchange: Exchange, tmp_path: Path) -> AsyncIterator[Tickets]:
    (tmp_path / "source").write_bytes(b"source " * 1000)
    source, result = tmp_path / "source", tmp_path / "result"
    async with exchange.offered(source=source, result=result, max_bytes=LIMIT) as given:
        yield given


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


async def status(
    http: aiohttp.ClientSession, method: str, url: str, body: bytes | None = None
) -> int:
    async with http.request(method, url, data=None if body is None else io.BytesIO(body)) as answer:
        await answer.read()
        return answer.status


async def test_each_ticket_is_good_for_one_transfer(
    http: aiohttp.ClientSession, tickets: Tickets, tmp_path: Path
) -> None:
    async with http.get(tickets.source_url) as answer:
        assert await answer.read() == (tmp_path / "source").read_bytes()
    layer = gzip.compress(b"layer")
    assert await status(http, "PUT", tickets.result_url, layer) == 204
    assert (tmp_path / "result").read_bytes() == layer
    assert await status(http, "GET", tickets.source_url) == 404
    assert await status(http, "PUT", tickets.result_url, layer) == 404


async def test_ticket_is_of_one_direction(http: aiohttp.ClientSession, tickets: Tickets) -> None:
    as_result = tickets.source_url.replace("/source/", "/result/")
    as_source = tickets.result_url.replace("/result/", "/source/")
    assert await status(http, "PUT", as_result, gzip.compress(b"")) == 404
    assert await status(http, "GET", as_source) == 404
    assert await status(http, "PUT", tickets.source_url, b"") == 404
    assert await status(http, "GET", tickets.source_url) == 200


@pytest.mark.parametrize("token", ["", "x", "%00", "../source", "%C3%A9"])
async def test_guess_finds_nothing(
    http: aiohttp.ClientSession, tickets: Tickets, token: str
) -> None:
    root = tickets.source_url.rpartition("/")[0]
    assert await status(http, "GET", f"{root}/{token}") == 404


async def test_tickets_end_with_their_build(
    exchange: Exchange, http: aiohttp.ClientSession, tmp_path: Path
) -> None:
    (tmp_path / "source").touch()
    async with exchange.offered(
        source=tmp_path / "source", result=tmp_path / "result", max_bytes=LIMIT
    ) as given:
        pass
    assert await status(http, "GET", given.source_url) == 404
    assert await status(http, "PUT", given.result_url, gzip.compress(b"")) == 404


@pytest.mark.parametrize(
    ("body", "answer"),
    [
        (b"no layer", 413),
        (gzip.compress(b"layer")[:-4], 400),
        (gzip.compress(b"layer") + b"more", 413),
        (gzip.compress(b"layer") + gzip.compress(b"another"), 413),
        (gzip.compress(bytes(LIMIT + 1)), 413),
        (gzip.compress(os.urandom(LIMIT)), 413),
        (b"", 400),
    ],
    ids=["text", "cut", "more", "two", "bomb", "large", "nothing"],
)
async def test_what_is_no_layer_is_refused_and_a_layer_may_still_come(
    http: aiohttp.ClientSession, tickets: Tickets, body: bytes, answer: int
) -> None:
    with suppress(aiohttp.ClientError):  # it may be refused before all of it was sent
        assert await status(http, "PUT", tickets.result_url, body) == answer
    assert not tickets.result.done()
    assert await status(http, "PUT", tickets.result_url, gzip.compress(b"layer")) == 204
    assert tickets.result.done()


async def test_connections_of_one_address_that_show_no_ticket_are_few(tickets: Tickets) -> None:
    parts = urlsplit(tickets.source_url)
    opened = [await asyncio.open_connection(parts.hostname, parts.port) for _ in range(9)]
    with suppress(ConnectionError):
        assert await opened[0][0].read() == b""  # the oldest had to go
    assert not any(reader.at_eof() for reader, _ in opened[1:])
    for _, each in opened:
        each.close()
        with suppress(ConnectionError):
            await each.wait_closed()


async def test_pods_behind_one_address_transfer_at_the_same_time(
    exchange: Exchange, tmp_path: Path
) -> None:
    """As many as there are, beside what somebody there holds open."""
    async with AsyncExitStack() as stack:
        writers = []
        for number in range(12):
            given = await stack.enter_async_context(
                exchange.offered(
                    source=tmp_path, result=tmp_path / f"result-{number}", max_bytes=LIMIT
                )
            )
            parts = urlsplit(given.result_url)
            _, writer = await asyncio.open_connection(parts.hostname, parts.port)
            layer = gzip.compress(b"layer")
            head = f"PUT {parts.path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(layer)}\r\n\r\n"
            writer.write(head.encode() + layer[:4])
            await until((tmp_path / f"result-{number}").exists)
            writers.append((given, writer, layer))
        held = [await asyncio.open_connection(parts.hostname, parts.port) for _ in range(9)]
        for given, writer, layer in writers:
            writer.write(layer[4:])
            assert (await given.result).size == len(layer)
        for _, each in (*held, *((None, writer) for _, writer, _ in writers)):
            each.close()
            with suppress(ConnectionError):
                await each.wait_closed()


async def test_connection_without_a_ticket_ends_soon(tmp_path: Path) -> None:
    """Also one of a pod that is gone: nothing else would ever end it."""
    exchange = Exchange(host="127.0.0.1", port=0, url="", idle_seconds=0.05)
    await exchange.open()
    async with exchange.offered(source=tmp_path, result=tmp_path, max_bytes=LIMIT) as given:
        parts = urlsplit(given.source_url)
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        writer.write(b"GET /source/guess HTTP/1.1\r\nHost: x\r\n")  # and never the rest
        with suppress(ConnectionError):
            assert await reader.read() == b""
        writer.close()
    await exchange.close()


async def test_slow_transfer_with_a_ticket_lasts(tmp_path: Path) -> None:
    exchange = Exchange(host="127.0.0.1", port=0, url="", idle_seconds=0.4)
    await exchange.open()
    result, layer = tmp_path / "result", gzip.compress(os.urandom(1000))
    sent = asyncio.Event()

    async def slowly() -> AsyncIterator[bytes]:
        for start in range(0, len(layer), 100):
            yield layer[start : start + 100]
            await asyncio.sleep(0.1)  # of the transfer itself, which lasts some times as long
        sent.set()

    async with (
        exchange.offered(source=tmp_path, result=result, max_bytes=LIMIT) as given,
        aiohttp.ClientSession() as session,
        session.put(given.result_url, data=slowly()) as answer,
    ):
        assert (answer.status, sent.is_set()) == (204, True)
    await exchange.close()


def filled(directory: Path) -> Path:
    (directory / "b").mkdir(parents=True)
    (directory / "b/run.sh").write_text("echo hi")
    (directory / "b/run.sh").chmod(0o755)
    (directory / "a\nb.txt").write_text("a")
    return directory


async def test_files_come_into_the_pod_as_they_are(exchange: Exchange, tmp_path: Path) -> None:
    source = tmp_path / "source.tar.gz"
    with source.open("wb") as out:
        places = [Place(filled(tmp_path / "files"), "app", 1000)]
        write_layer(places, out, LayerBounds(max_bytes=LIMIT))
    root = tmp_path / "root"
    (root / "app").mkdir(parents=True)  # mounted
    (root / "app/a\nb.txt").write_text("of an attempt before")
    async with exchange.offered(source=source, result=source, max_bytes=LIMIT) as given:
        await asyncio.to_thread(fetch.fetch, given.source_url, root)
    assert (root / "app/a\nb.txt").read_text() == "a"
    assert (root / "app/b/run.sh").stat().st_mode & 0o777 == 0o755


async def test_files_that_come_incomplete_are_no_files(exchange: Exchange, tmp_path: Path) -> None:
    source = tmp_path / "source.tar.gz"
    with source.open("wb") as out:
        (tmp_path / "files").mkdir()
        (tmp_path / "files/large").write_bytes(os.urandom(MIB))
        places = [Place(tmp_path / "files", "app", 1000)]
        write_layer(places, out, LayerBounds(max_bytes=LIMIT))
    source.write_bytes(source.read_bytes()[: MIB // 2])
    async with exchange.offered(source=source, result=source, max_bytes=LIMIT) as given:
        with pytest.raises(OSError, match="incomplete"):
            await asyncio.to_thread(fetch.fetch, given.source_url, tmp_path)


async def test_layer_is_what_was_packed(tickets: Tickets, tmp_path: Path) -> None:
    places = [Place(filled(tmp_path / "app"), "app", 1000)]
    bounds = LayerBounds(max_bytes=LIMIT)
    said = await asyncio.to_thread(pack.pack, tickets.result_url, places, bounds, Beneath())
    expected = write_layer(places, io.BytesIO(), bounds)
    assert (said, tickets.result.result()) == ("", expected)
    with tarfile.open(tmp_path / "result") as archive:
        names = [entry.name for entry in archive]
    assert names == ["app", "app/a\nb.txt", "app/b", "app/b/run.sh"]


@pytest.mark.parametrize(
    ("name", "size", "code"), [("giant", 1 << 40, TOO_LARGE), (".wh.x", 1, REFUSED)]
)
async def test_refused_files_leave_no_layer(
    tickets: Tickets, tmp_path: Path, name: str, size: int, code: int
) -> None:
    (tmp_path / "app").mkdir()
    (tmp_path / "app/before").write_bytes(os.urandom(2 * MIB))
    with (tmp_path / "app" / name).open("wb") as file:
        file.truncate(size)
    places = [Place(tmp_path / "app", "app", 1000)]
    with pytest.raises(Failed) as failed:
        await asyncio.to_thread(
            pack.pack, tickets.result_url, places, LayerBounds(max_bytes=LIMIT), Beneath()
        )
    assert (failed.value.code, tickets.result.done()) == (code, False)


async def test_transfer_that_is_cut_off_is_no_error_and_may_be_made_again(
    http: aiohttp.ClientSession, tickets: Tickets, caplog: pytest.LogCaptureFixture
) -> None:
    parts = urlsplit(tickets.result_url)
    _, writer = await asyncio.open_connection(parts.hostname, parts.port)
    head = f"PUT {parts.path} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    layer = gzip.compress(b"layer")
    writer.write(head.encode() + b"a\r\n" + layer[:10] + b"\r\n")
    await until_read(
        lambda: status(http, "PUT", tickets.result_url, b"begun?"), lambda it: it == 503
    )
    writer.transport.abort()
    answer = await until_read(  # 503 until the end of the other is noticed
        lambda: status(http, "PUT", tickets.result_url, layer), lambda it: it != 503
    )
    assert (answer, tickets.result.done()) == (204, True)
    assert [it for it in caplog.records if it.levelname == "ERROR"] == []


async def test_refusal_of_the_gateway_is_said(tickets: Tickets, tmp_path: Path) -> None:
    with pytest.raises(Failed, match="404"):
        await asyncio.to_thread(fetch.fetch, f"{tickets.source_url}x", tmp_path)


def test_layers_are_compressed_in_one_stream() -> None:
    """So that the gateway can refuse what follows it."""
    out = io.BytesIO()
    write_layer([], out, LayerBounds(max_bytes=LIMIT))
    unpacker = zlib.decompressobj(31)
    unpacker.decompress(out.getvalue())
    assert (unpacker.eof, unpacker.unused_data) == (True, b"")
