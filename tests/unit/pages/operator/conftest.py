import pytest

from clock import MovableClock
from moorage.storage.database import Database
from operator_pages import OperatorPages


@pytest.fixture
def pages(db: Database, clock: MovableClock) -> OperatorPages:
    return OperatorPages(db, clock)
