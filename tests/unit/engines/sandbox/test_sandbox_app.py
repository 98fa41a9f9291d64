"""How often an app that starts is looked at."""

import pytest

from moorage.engines.sandbox.app import poll_pause


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
