"""What every table of routes does, that which tests put in place of the router included."""

from pathlib import Path

import pytest

from moorage.address import Address
from moorage.deploy.addresses.addresses import Routes
from moorage.routing.router import Router
from support.gateway.fakes import FakeRoutes

ONE, TWO = "one.localhost", "two.localhost"
SOCKET, PORT = Address("unix:/run/blue.sock"), Address("10.1.2.3:3000")


@pytest.fixture(params=["router", "fake"])
def routes(request: pytest.FixtureRequest, tmp_path: Path) -> Routes:
    return Router(tmp_path, "localhost") if request.param == "router" else FakeRoutes()


async def test_host_leads_where_it_was_pointed_last(routes: Routes) -> None:
    assert routes.target(ONE) is None
    for target in (SOCKET, SOCKET, PORT, SOCKET):
        await routes.point(ONE, target)
        assert routes.target(ONE) == target
    await routes.point(TWO, PORT)
    assert routes.routes() == {ONE: SOCKET, TWO: PORT}


async def test_removed_host_leads_nowhere(routes: Routes) -> None:
    await routes.point(ONE, SOCKET)
    for _ in range(2):
        await routes.remove(ONE)
    assert routes.target(ONE) is None
    assert routes.routes() == {}
