"""What becomes of Dockerfiles on each engine, as planning is told before anybody pays."""

import pytest

from moorage.gateway.engine_choice import offered
from moorage.planning.toolbox import Dockerfiles, Toolbox
from moorage.settings import load_settings


@pytest.mark.parametrize(
    ("isolation", "becomes"),
    [
        ("root", Dockerfiles.STEPS),
        ("docker", Dockerfiles.BUILT),
        ("kubernetes", Dockerfiles.ROOTLESS),
    ],
)
def test_dockerfiles_are_planned_as_they_can_be_built(isolation: str, becomes: Dockerfiles) -> None:
    chosen = load_settings(file=None, environ={}, isolation=isolation)
    assert offered(chosen)(Toolbox()).dockerfiles is becomes
