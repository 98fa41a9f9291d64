"""What a start does: earlier certificates, the root to trust, the operator's own files."""

import os
from pathlib import Path

import pytest
from room import BASE, ProxyInMemory

from moorage.certificates.services import (
    CertificateServices,
    open_certificates,
)
from moorage.core import Core
from moorage.errors import ConfigurationInvalid
from moorage.settings import load_settings
from moorage.storage.apps import certificates
from moorage.storage.database import Database
from moorage.storage.several.leases import Leases
from moorage.storage.vault import KEY_BYTES, Vault
from support.books.records_fixture import GATEWAY
from support.gateway.clock import MovableClock

HOST = "shop.example"


@pytest.fixture
def core(db: Database, clock: MovableClock, tmp_path: Path) -> Core:
    (tmp_path / "certificates").mkdir()
    return Core(
        db=db,
        vault=Vault([os.urandom(KEY_BYTES)]),
        leases=Leases(db=db, holder=GATEWAY, clock=clock),
        clock=clock,
        data_dir=tmp_path,
    )


async def opened(core: Core, proxy: ProxyInMemory, **given: object) -> CertificateServices:
    settings = load_settings(
        file=None, environ={}, tls=True, base_domain=BASE, data_dir=str(core.data_dir), **given
    )
    return await open_certificates(core, settings, own_host="gateway.example", proxy=proxy)


async def test_own_authority_writes_its_root_for_people_and_certifies_the_gateway(
    core: Core, tmp_path: Path
) -> None:
    proxy = ProxyInMemory()
    made = await opened(core, proxy, acme_directories=("internal",))
    assert made.internal is not None
    root = (tmp_path / "certificates/root.pem").read_text()
    assert root == await made.internal.root()
    await made.certificates.want_own()
    await made.orders.begin()
    await made.orders.settled()
    assert set(proxy.pems) == {"gateway.example"}
    assert made.availability is None  # nobody elsewhere is asked


async def test_wildcard_certificate_that_cannot_be_read_is_refused_at_the_start(
    core: Core, tmp_path: Path
) -> None:
    files = (str(tmp_path / "pem"), str(tmp_path / "key"))
    for given in (files, files[:1]):
        with pytest.raises(ConfigurationInvalid):
            await opened(core, ProxyInMemory(), wildcard_certificate=given)
    assert await certificates.mark(core.db) == (0, 0)
