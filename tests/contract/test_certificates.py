"""Certificates of a real authority that speaks ACME, which looks at real ports and names."""

import asyncio
import os
import shutil
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest
import pytest_asyncio
from aiohttp import web

from moorage.certificates import acme
from moorage.certificates.acme import AcmeAuthority as Client
from moorage.certificates.authority import Accounts, Fault, OrderFailed, Proof
from moorage.certificates.orders import PlacedProofs
from moorage.certificates.pem import new_key, parse_certificate
from moorage.gateway.pages import CHALLENGES
from moorage.storage.database import Database
from moorage.storage.vault import Vault
from support.engines.name_server import name_server
from support.gateway.acme_authority import AcmeAuthority, acme_authority
from support.gateway.clock import MovableClock
from support.gateway.waiting import until

pytestmark = pytest.mark.root

HOST, ELSEWHERE = "shop.example", "elsewhere.example"
HERE = f"127.{64 + os.getpid() % 64}.{os.getpid() // 64 % 256}.7"
"""An address of this process, as the authority asks at port 80."""


@pytest.fixture
def authority(tmp_path: Path) -> AcmeAuthority:
    return acme_authority(tmp_path / "authority")


@pytest.fixture
def proofs(db: Database) -> PlacedProofs:
    return PlacedProofs(db, hook=(), clock=MovableClock())


@pytest_asyncio.fixture
async def answering(proofs: PlacedProofs) -> AsyncIterator[list[str]]:
    """What answers at port 80, as any gateway would; the paths that were asked for."""
    asked = []

    async def answer(request: web.Request) -> web.Response:
        asked.append(request.path)
        found = await proofs.answer(request.match_info["token"])
        return web.Response(text=found) if found else web.Response(status=404)

    app = web.Application()
    app.router.add_get(CHALLENGES + "{token}", answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, HERE, 80).start()
    yield asked
    await runner.cleanup()


def client(db: Database, authority: AcmeAuthority) -> Client:
    accounts = Accounts(db, Vault([bytes(32)]))
    return Client(authority.url, accounts=accounts, root_file=str(authority.root_file))


@contextmanager
def running(authority: AcmeAuthority) -> Iterator[None]:
    with authority.running({HOST: HERE, ELSEWHERE: "127.0.0.1"}):
        yield


@asynccontextmanager
async def served(chain: str, key: str, directory: Path) -> AsyncIterator[int]:
    """A server with that certificate; its port."""
    (directory / "served.pem").write_text(chain + key)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(directory / "served.pem")

    async def hang_up(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    server = await asyncio.start_server(hang_up, HERE, 0, ssl=tls)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def test_authority_finds_the_proof_and_gives_a_certificate_that_visitors_trust(
    db: Database,
    authority: AcmeAuthority,
    proofs: PlacedProofs,
    answering: list[str],
    tmp_path: Path,
) -> None:
    key = new_key()
    with running(authority):
        await authority.until_ready()
        chain = await client(db, authority).certify(HOST, key, proofs)
    assert parse_certificate(chain, key).names == (HOST,)
    assert len(answering) == 1
    trust = ssl.create_default_context(cafile=str(authority.root_file))
    async with served(chain, key, tmp_path) as port:
        _, writer = await asyncio.open_connection(HERE, port, ssl=trust, server_hostname=HOST)
        writer.close()
        await writer.wait_closed()
    assert await proofs.answer(answering[0].removeprefix(CHALLENGES)) is None


async def test_one_account_serves_all_gateways_and_is_made_again_where_it_is_forgotten(
    db: Database, authority: AcmeAuthority, proofs: PlacedProofs, answering: list[str]
) -> None:
    accounts = Accounts(db, Vault([bytes(32)]))
    known = []
    with running(authority):
        await authority.until_ready()
        for _ in range(2):
            await client(db, authority).certify(HOST, new_key(), proofs)
            known.append(await accounts.of(authority.url))
    assert known[0] is not None
    assert known[0] == known[1]

    shutil.rmtree(authority.directory / ".local")  # where it has its accounts
    with running(authority):
        await authority.until_ready()
        with pytest.raises(OrderFailed) as failed:
            await client(db, authority).certify(HOST, new_key(), proofs)
        assert failed.value.fault is Fault.AUTHORITY
        await client(db, authority).certify(HOST, new_key(), proofs)
    again = await accounts.of(authority.url)
    assert again is not None
    assert again != known[0]


async def test_name_that_leads_elsewhere_is_refused_by_its_own_fault(
    db: Database,
    authority: AcmeAuthority,
    proofs: PlacedProofs,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(acme, "VALIDATION_SECONDS", 3.0)  # this one looks again and again
    with running(authority):
        await authority.until_ready()
        with pytest.raises(OrderFailed, match="localhost says: ") as failed:
            await client(db, authority).certify(ELSEWHERE, new_key(), proofs)
    assert failed.value.fault is Fault.NAME


async def test_wildcard_certificate_is_proved_by_a_text_record(
    db: Database, authority: AcmeAuthority
) -> None:
    async with name_server() as names:
        authority.resolver = names.address

        class InDns:
            @asynccontextmanager
            async def placed(self, proof: Proof) -> AsyncIterator[None]:
                assert proof.token == ""
                names.texts[f"_acme-challenge.{proof.name}"] = [proof.value]
                yield

        key = new_key()
        with running(authority):
            await authority.until_ready()
            chain = await client(db, authority).certify("*.apps.example", key, InDns())
    assert parse_certificate(chain, key).names == ("*.apps.example",)


async def test_authority_that_is_away_is_told_from_a_name_that_is_refused(
    db: Database, authority: AcmeAuthority, proofs: PlacedProofs
) -> None:
    with running(authority):
        await authority.until_ready()
    with pytest.raises(OrderFailed, match="localhost cannot be asked") as failed:
        await client(db, authority).certify(HOST, new_key(), proofs)
    assert failed.value.fault is Fault.AUTHORITY


@pytest.mark.parametrize(
    "answer",
    [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{", b"HTTP/1.1 200 OK\r\n\r\n{}"],
    ids=["nothing", "half an answer", "another's answer"],
)
async def test_authority_that_never_answers_as_one_is_given_up(
    db: Database,
    proofs: PlacedProofs,
    monkeypatch: pytest.MonkeyPatch,
    answer: bytes,
) -> None:
    monkeypatch.setattr(acme, "STEP_SECONDS", 0.5)
    monkeypatch.setattr(acme, "ANSWER_SECONDS", 2)

    stalled: set[object] = set()

    async def stall(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        stalled.add(writer)
        writer.write(answer)
        if answer.endswith(b"}"):
            writer.write_eof()
        await reader.read(-1)
        writer.close()
        await writer.wait_closed()
        stalled.discard(writer)

    server = await asyncio.start_server(stall, HERE, 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        url = f"http://{HERE}:{port}/directory"
        mute = Client(url, accounts=Accounts(db, Vault([bytes(32)])))
        with pytest.raises(OrderFailed) as failed:
            await mute.certify(HOST, new_key(), proofs)
        await until(lambda: not stalled)  # no request of ours stays
    assert failed.value.fault is Fault.AUTHORITY
