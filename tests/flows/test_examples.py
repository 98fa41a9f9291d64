"""Each of examples/ deploys on `moorage dev`."""

import pytest

from support.clients.examples import EXAMPLES, TITLES, deploys_and_answers
from support.gateway.gateway_fixture import DevGateway

pytestmark = pytest.mark.root


def test_every_example_is_tried_here() -> None:
    assert {path.name for path in EXAMPLES.iterdir() if path.is_dir()} - {"agents"} == set(TITLES)


@pytest.mark.parametrize("example", TITLES)
async def test_example_deploys_from_a_zip_and_answers(
    dev_gateway: DevGateway, example: str
) -> None:
    await deploys_and_answers(dev_gateway, example)
