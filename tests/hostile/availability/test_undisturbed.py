"""A gateway that nobody attacks: what the other tests of this folder ask for is there."""

from collections.abc import Iterator

import pytest
from neighbour import settle

from support.gateway.gateway_fixture import DevGateway, running

pytestmark = pytest.mark.root


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevGateway]:
    with running(tmp_path_factory.mktemp("undisturbed")) as started:
        yield started


async def test_neighbour_has_what_it_paid_for(gateway: DevGateway) -> None:
    neighbour = await settle(gateway)
    async with neighbour.unharmed():
        pass
    assert neighbour.visits > 0
