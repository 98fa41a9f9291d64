"""For how long an app that was seen to listen is taken to do so."""

import pytest

from clock import MovableClock
from moorage.engines.sandbox.listen_cache import Hearing


@pytest.mark.parametrize(("apps", "seconds"), [(1, 3), (15, 3), (50, 10), (100, 20), (1000, 20)])
def test_apps_are_believed_for_longer_the_more_there_are(apps: int, seconds: int) -> None:
    clock = MovableClock()
    hearing = Hearing(clock)
    for number in range(apps):
        hearing.note(f"app {number}", listens=True)
    clock.advance(seconds * 1000 - 1)
    assert hearing.is_recent("app 0")
    clock.advance(1)
    assert not hearing.is_recent("app 0")


def test_what_did_not_listen_or_was_never_looked_at_is_not_believed() -> None:
    hearing = Hearing(MovableClock())
    hearing.note("app", listens=True)
    hearing.note("app", listens=False)
    assert not hearing.is_recent("app")
    assert not hearing.is_recent("another")


def test_what_runs_no_more_is_forgotten() -> None:
    hearing = Hearing(MovableClock())
    for name in ("gone", "here"):
        hearing.note(name, listens=True)
    hearing.forget(but={"here"})
    assert not hearing.is_recent("gone")
    assert hearing.is_recent("here")
