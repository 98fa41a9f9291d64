"""The gateway's own authority: a root to trust, shared by all gateways, and what it signs."""

import ssl
import tempfile
from pathlib import Path

import pytest
from room import Room

from moorage.certificates.authority import Accounts
from moorage.certificates.internal import InternalAuthority
from moorage.certificates.pem import new_key, parse_certificate
from moorage.storage.database import Database
from moorage.storage.vault import Vault
from support.gateway.clock import START_MS, MovableClock

HOST = "app.internal.example"


def authority(db: Database, clock: MovableClock) -> InternalAuthority:
    return InternalAuthority(Accounts(db, Vault([bytes(32)])), clock=clock)


def handshake(chain: str, key: str, *, root: str, host: str) -> None:
    """A visitor who trusts `root` connects to a server with that certificate; in memory."""
    server_tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.NamedTemporaryFile("w") as both:
        both.write(chain + key)
        both.flush()
        server_tls.load_cert_chain(both.name)
    visitor_tls = ssl.create_default_context(cadata=root)
    to_server, to_visitor = ssl.MemoryBIO(), ssl.MemoryBIO()
    visitor = visitor_tls.wrap_bio(to_visitor, to_server, server_hostname=host)
    server = server_tls.wrap_bio(to_server, to_visitor, server_side=True)
    ended: set[ssl.SSLObject] = set()
    while len(ended) < 2:
        for side in (visitor, server):
            try:
                side.do_handshake()
                ended.add(side)
            except ssl.SSLWantReadError:
                continue


async def test_visitor_who_trusts_the_root_trusts_what_it_signs(db: Database) -> None:
    import time

    clock = MovableClock(time.time_ns() // 1_000_000)  # the handshake's clock is the machine's
    signing = authority(db, clock)
    key = new_key()
    chain = await signing.certify(HOST, key, Room(db, clock).proofs)
    root = await signing.root()
    handshake(chain, key, root=root, host=HOST)
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        handshake(chain, key, root=root, host="other.example")
    made = parse_certificate(chain, key)
    assert made.names == (HOST,)
    assert made.not_before_ms < clock.now_ms() < made.not_after_ms


async def test_all_gateways_sign_with_one_root(db: Database, clock: MovableClock) -> None:
    one, two = (authority(db, clock) for _ in range(2))
    assert await one.root() == await two.root()


async def test_own_authority_has_no_limits(
    db: Database, clock: MovableClock, tmp_path: Path
) -> None:
    room = Room(db, clock, authority(db, clock))
    hosts = [f"app-{number}.example" for number in range(40)]
    await room.want(*hosts)
    for _ in range(8):
        await room.begin()
    assert set(room.proxy.pems) == set(hosts)
    assert clock.now_ms() == START_MS
