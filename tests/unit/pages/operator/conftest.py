import pytest

from moorage.storage.database import Database
from support.gateway.clock import MovableClock
from support.gateway.operator_pages import OperatorPages


@pytest.fixture
def pages(db: Database, clock: MovableClock) -> OperatorPages:
    return OperatorPages(db, clock)
