"""For how long an app that was seen to listen is taken to do so."""

import pytest

from clock import MovableClock
from moorage.engines.sandbox.listen_cache import ListenCache


@pytest.mark.parametrize(("apps", "seconds"), [(1, 3), (15, 3), (50, 10), (100, 20), (1000, 20)])
def test_apps_are_believed_for_longer_the_more_there_are(apps: int, seconds: int) -> None:
    clock = MovableClock()
    listen_cache = ListenCache(clock)
    for number in range(apps):
        listen_cache.note(f"app {number}", listens=True)
    clock.advance(seconds * 1000 - 1)
    assert listen_cache.is_recent("app 0")
    clock.advance(1)
    assert not listen_cache.is_recent("app 0")


def test_what_did_not_listen_or_was_never_looked_at_is_not_believed() -> None:
    listen_cache = ListenCache(MovableClock())
    listen_cache.note("app", listens=True)
    listen_cache.note("app", listens=False)
    assert not listen_cache.is_recent("app")
    assert not listen_cache.is_recent("another")


def test_what_runs_no_more_is_forgotten() -> None:
    listen_cache = ListenCache(MovableClock())
    for name in ("gone", "here"):
        listen_cache.note(name, listens=True)
    listen_cache.forget(keep={"here"})
    assert not listen_cache.is_recent("gone")
    assert listen_cache.is_recent("here")
