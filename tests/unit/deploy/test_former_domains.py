"""After `base_domain` has changed, apps answer at their old addresses too."""

import pytest

from moorage.address import Address
from moorage.deploy.addresses.addresses import Addresses, Hosts
from moorage.errors import InvalidField
from moorage.records.domain import DomainRules
from moorage.storage.database import Database
from support.books.records_fixture import add_project

TARGET = Address("127.0.0.1:3000")
OLD, NEW = "hello.old.example", "hello.new.example"


class Table:
    """Routes in memory."""

    def __init__(self) -> None:
        self.table: dict[str, Address] = {}

    async def point(self, host: str, target: Address) -> None:
        self.table[host] = target

    async def remove(self, host: str) -> None:
        self.table.pop(host, None)

    def target(self, host: str) -> Address | None:
        return self.table.get(host)

    def routes(self) -> dict[str, Address]:
        return dict(self.table)


def addresses(db: Database, table: Table, *former: str) -> Addresses:
    hosts = Hosts(base_domain="new.example", scheme="http", port=None, former_domains=former)
    return Addresses(db=db, routes=table, hosts=hosts)


async def test_project_is_routed_at_its_old_and_its_new_host(db: Database) -> None:
    table = Table()
    found, project = addresses(db, table, "old.example"), await add_project(db)
    assert await found.project_at(OLD) == project
    await table.point(NEW, TARGET)  # as the start before left it
    assert not found.routes_to(project, TARGET, proved=())
    await found.route(project, TARGET)
    assert table.table == {NEW: TARGET, OLD: TARGET}
    assert found.routes_to(project, TARGET, proved=())
    await found.unroute(project)
    assert table.table == {}


async def test_start_removes_routes_below_a_domain_that_was_retired(db: Database) -> None:
    table = Table()
    table.table = {NEW: TARGET, OLD: TARGET}
    await add_project(db)
    await addresses(db, table).sweep()
    assert table.table == {NEW: TARGET}


def test_nobody_claims_a_host_below_a_former_domain() -> None:
    rules = DomainRules(
        base_domains=("new.example", "old.example"),
        gateway_host="gateway.example",
        max_length=80,
    )
    for host in ("a.old.example", "old.example"):
        with pytest.raises(InvalidField, match=r"old\.example"):
            rules.host(host)
    assert rules.host("a.elsewhere.example") == "a.elsewhere.example"
