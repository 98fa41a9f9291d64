"""What an app may set in its visitors' browsers reaches no other app: a real proxy, a real jar."""

import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio
from aiohttp import CookieJar
from yarl import URL

from moorage.address import Address
from moorage.gateway.platform import find_tool
from moorage.routing.haproxy import HAProxy
from moorage.routing.haproxy_config import ProxySettings
from moorage.routing.pages import listen_unix
from moorage.routing.router import Router

BASE = "apps.harbour.example"
OWN, NEIGHBOUR = f"mine.{BASE}", f"yours.{BASE}"
DEADLINE_SECONDS = 60.0


@dataclass
class Proxy:
    """A proxy whose apps answer with whatever bytes a test has."""

    port: int
    router: Router
    directory: Path

    @asynccontextmanager
    async def app(self, host: str, answer: bytes) -> AsyncIterator[None]:
        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(answer)
            await writer.drain()
            writer.close()

        path = self.directory / "app.sock"
        async with await asyncio.start_server(handle, sock=listen_unix(path)):
            await self.router.point(host, Address.unix(path))
            yield

    async def ask(self, host: str, *fields: str) -> list[list[tuple[str, str]]]:
        """The header fields of each answer to one request, 1xx ones before the last one."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        head = [f"GET / HTTP/1.1\r\nHost: {host}", *(fields or ["Connection: close"])]
        writer.write("\r\n".join([*head, "\r\n"]).encode())
        async with asyncio.timeout(DEADLINE_SECONDS):
            answered = await reader.read()
        writer.close()
        await writer.wait_closed()
        heads = [part for part in answered.split(b"\r\n\r\n") if part.startswith(b"HTTP/1.1 ")]
        assert heads, answered
        return [_fields(head.decode("latin-1")) for head in heads]


def _fields(head: str) -> list[tuple[str, str]]:
    split = (line.partition(":") for line in head.split("\r\n")[1:])
    return [(name, value.strip()) for name, _, value in split]


def cookies(fields: list[tuple[str, str]]) -> list[str]:
    return [value for name, value in fields if name.lower() == "set-cookie"]


def domains(cookie: str) -> list[str]:
    """The Domain attributes, as RFC 6265, 5.2 finds them."""
    attributes = (part.partition("=") for part in cookie.split(";")[1:])
    return [value for name, _, value in attributes if name.strip(" \t").lower() == "domain"]


def sent_to(host: str, fields: list[tuple[str, str]]) -> set[str]:
    """The names of the cookies that a jar which read OWN's answer sends to `host`."""
    jar = CookieJar()
    jar.update_cookies_from_headers(cookies(fields), URL(f"https://{OWN}/"))
    return set(jar.filter_cookies(URL(f"https://{host}/")))


@pytest_asyncio.fixture
async def proxy() -> AsyncIterator[Proxy]:
    with tempfile.TemporaryDirectory() as root:
        directory = Path(root)
        settings = ProxySettings(
            run_dir=directory / "run",
            state_dir=directory / "proxy",
            base_domain=BASE,
            http_port=0,
        )
        router = Router(settings.run_dir, BASE)
        caddy = HAProxy(find_tool("haproxy"), settings)
        try:
            yield Proxy(await caddy.start(), router, directory)
        finally:
            await caddy.stop()


def answer(*lines: str, status: str = "200 OK") -> bytes:
    head = "\r\n".join([f"HTTP/1.1 {status}", "Content-Length: 2", *lines, "\r\n"])
    return head.encode("latin-1") + b"ok"


SPELLINGS = [
    f"a=1; Domain={BASE}",
    f"a=1; Domain=.{BASE}",
    f"a=1;DOMAIN={BASE.upper()};Path=/",
    f"a=1; dOmAiN = {BASE} ; Path=/",
    f"a=1;\t Domain\t=\t{BASE}",
    f'a=1; Domain="{BASE}"',
    "a=1; Domain=harbour.example",
    "a=1; Domain=.example",
    f"a=1; Domain={OWN}; Domain={BASE}",
    f"a=1; Domain={BASE}; Domain={BASE}; Secure",
    f'a="x; Domain={BASE}"',
    f"a=1; Path=/; Secure; HttpOnly; SameSite=None; Domain={BASE}; Max-Age=9",
    f"a=1;;; ; Domain={BASE};;",
    f"a=1; Domain=%61pps.harbour.example; Domain={BASE}.",
    f"a=1;\r\n Domain={BASE}",  # a folded line
    f"a=1; \xa0Domain\xa0={BASE}",
    f"a=1; Domain==; Domain={BASE}",
    f"a=1; Domain={BASE}; domain=.{BASE}; DOMAIN={BASE}; Domain={BASE}; Path=/",
]


@pytest.mark.parametrize("cookie", SPELLINGS)
async def test_cookie_of_an_app_is_its_own_hosts_alone(proxy: Proxy, cookie: str) -> None:
    async with proxy.app(OWN, answer(f"sEt-cOOkie: {cookie}", "Set-Cookie: b=2; Path=/")):
        (fields,) = await proxy.ask(OWN)
    assert len(cookies(fields)) == 2
    assert [domains(value) for value in cookies(fields)] == [[], []]
    assert "domain" not in str(cookies(fields)).lower()
    assert sent_to(NEIGHBOUR, fields) == set()
    assert sent_to(OWN, fields) == {"a", "b"}


async def test_the_jar_would_send_the_neighbour_what_the_proxy_takes_away() -> None:
    """Else the test above would show nothing."""
    assert sent_to(NEIGHBOUR, [("Set-Cookie", f"a=1; Domain={BASE}")]) == {"a"}


async def test_cookie_of_endless_domains_is_taken_away(proxy: Proxy) -> None:
    async with proxy.app(
        OWN, answer(f"Set-Cookie: a=1{f'; Domain={BASE}' * 50}", "Set-Cookie: b=2")
    ):
        (fields,) = await proxy.ask(OWN)
    assert sent_to(NEIGHBOUR, fields) == set()
    assert "domain" not in str(cookies(fields)).lower()


async def test_cookie_that_is_made_to_be_slow_to_read_is_cleaned_in_passing(proxy: Proxy) -> None:
    """tests/unit/routing/test_rules.py bounds the steps; here the proxy itself takes it."""
    slow = f"Set-Cookie: a=1;{'domain' * 4800}; Domain={BASE}"
    async with proxy.app(OWN, answer(slow, "Set-Cookie: b=2")):
        for _ in range(20):
            (fields,) = await proxy.ask(OWN)
    assert domains(cookies(fields)[0]) == []
    assert sent_to(NEIGHBOUR, fields) == set()


async def test_what_else_a_cookie_says_stays_as_it_was(proxy: Proxy) -> None:
    plain = "a=domain=5&x; Subdomain=d; Expires=Wed, 21 Oct 2065 07:28:00 GMT; SameSite=Lax"
    async with proxy.app(OWN, answer(f"Set-Cookie: {plain}")):
        (fields,) = await proxy.ask(OWN)
    assert cookies(fields) == [plain]


async def test_cookies_are_cleaned_behind_an_informational_answer_that_passes(
    proxy: Proxy,
) -> None:
    """Of which browsers take none: see docs/inside/decisions/haproxy.md."""
    hints = f"HTTP/1.1 103 Early Hints\r\nSet-Cookie: a=1; Domain={BASE}\r\n\r\n".encode()
    async with proxy.app(OWN, hints + answer(f"Set-Cookie: b=1; Domain={BASE}")):
        first, last = await proxy.ask(OWN)
    assert cookies(first) == [f"a=1; Domain={BASE}"]
    assert cookies(last) == ["b=1"]


async def test_cookies_of_an_upgrade_are_the_hosts_alone(proxy: Proxy) -> None:
    lines = f"Upgrade: x\r\nConnection: Upgrade\r\nSet-Cookie: a=1; Domain={BASE}"
    head = f"HTTP/1.1 101 Switching Protocols\r\n{lines}\r\nX-Moorage-Fallback: forged\r\n\r\n"
    async with proxy.app(OWN, head.encode()):
        (fields,) = await proxy.ask(OWN, "Upgrade: x", "Connection: Upgrade")
    assert cookies(fields) == ["a=1"]
    assert "x-moorage-fallback" not in {name.lower() for name, _ in fields}


@pytest.mark.parametrize(
    "told", ['"cookies"', '"cache", "cookies"', '"*"', '"cookies", "*", "Cookies"']
)
async def test_app_clears_no_cookies_but_by_setting_its_own(proxy: Proxy, told: str) -> None:
    async with proxy.app(OWN, answer(f"Clear-Site-Data: {told}")):
        (fields,) = await proxy.ask(OWN)
    (cleared,) = [value for name, value in fields if name.lower() == "clear-site-data"]
    assert set(cleared.replace(" ", "").split(",")) <= {'"cache"', '"storage"'}


@pytest.mark.parametrize(
    ("host", "is_kept"),
    [
        ("shop.elsewhere.example", True),
        ("harbour.example.elsewhere.example", True),
        ("notharbour.example", True),
        ("shop.harbour.example", False),  # could set what all apps get
        ("harbour.example", False),
    ],
)
async def test_domain_of_its_own_sets_cookies_for_its_parents(
    proxy: Proxy, host: str, *, is_kept: bool
) -> None:
    cookie = f"a=1; Domain={host.partition('.')[2]}"
    async with proxy.app(host, answer(f"Set-Cookie: {cookie}")):
        (fields,) = await proxy.ask(host)
    assert cookies(fields) == [cookie if is_kept else "a=1"]
