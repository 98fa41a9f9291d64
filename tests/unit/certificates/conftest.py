"""A room for each test."""

import pytest
from room import Room

from clock import MovableClock
from moorage.storage.database import Database


@pytest.fixture
def room(db: Database, clock: MovableClock) -> Room:
    return Room(db, clock)
