"""A room for each test."""

import pytest
from room import Room

from moorage.storage.database import Database
from support.gateway.clock import MovableClock


@pytest.fixture
def room(db: Database, clock: MovableClock) -> Room:
    return Room(db, clock)
