"""For how long an app is taken to run, and how often one that starts is polled."""

import pytest

from moorage.address import Address
from moorage.engines.engine import Instance
from moorage.engines.sandbox.app import poll_pause
from moorage.engines.sandbox.sandbox import RecentInstances
from support.gateway.clock import MovableClock


@pytest.mark.parametrize(
    ("waited", "looking", "pause"),
    [
        (0.0, 0.0, 0.002),
        (0.1, 0.0, 0.002),
        (0.5, 0.0, 0.01),
        (2.5, 0.0, 0.05),
        (60.0, 0.0, 0.05),
        (0.0, 0.03, 0.3),  # it listens on a hundred thousand ports, say
    ],
)
def test_app_is_looked_at_the_rarer_the_longer_it_starts(
    waited: float, looking: float, pause: float
) -> None:
    assert poll_pause(waited, took_seconds=looking) == pytest.approx(pause)


def app(name: str, port: int = 20_000) -> Instance:
    return Instance(deployment_id=name, address=Address(f"10.201.0.2:{port}"), port=3000)


@pytest.mark.parametrize(("apps", "seconds"), [(1, 3), (9, 3), (45, 15), (60, 20), (1000, 20)])
def test_apps_are_believed_for_longer_the_more_there_are(apps: int, seconds: int) -> None:
    clock = MovableClock()
    recent = RecentInstances(clock)
    for number in range(apps):
        recent.note(app(f"app {number}"))
    clock.advance(seconds * 1000 - 1)
    assert recent.instance("app 0") == app("app 0")
    clock.advance(1)
    assert recent.instance("app 0") is None


def test_what_was_started_or_stopped_is_looked_at_again() -> None:
    recent = RecentInstances(MovableClock())
    recent.note(app("app"))
    recent.forget("app")
    assert recent.instance("app") is None
    assert recent.instance("another") is None


def test_what_was_seen_last_counts() -> None:
    recent = RecentInstances(MovableClock())
    recent.note(app("app"))
    recent.note(app("app", port=30_000))
    assert recent.instance("app") == app("app", port=30_000)


def test_what_runs_no_more_is_forgotten() -> None:
    recent = RecentInstances(MovableClock())
    for name in ("gone", "here"):
        recent.note(app(name))
    recent.forget_others(keep={"here"})
    assert recent.instance("gone") is None
    assert recent.instance("here") is not None
