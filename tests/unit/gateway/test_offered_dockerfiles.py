"""What becomes of Dockerfiles on each engine, as planning is told before anybody pays."""

import pytest

from moorage.gateway.platform.isolation import offered
from moorage.planning.toolbox import Dockerfiles, Toolbox
from moorage.settings import load_settings

HOST = {"kubernetes_docker_host": "unix:///var/run/docker.sock"}


@pytest.mark.parametrize(
    ("isolation", "settings", "becomes"),
    [
        ("root", {}, Dockerfiles.STEPS),
        ("docker", {}, Dockerfiles.BUILT),
        ("kubernetes", {}, Dockerfiles.NONE),
        ("kubernetes", HOST, Dockerfiles.ROOTLESS),
    ],
    ids=["sandbox", "docker", "cluster", "cluster with a daemon"],
)
def test_dockerfiles_are_planned_as_they_can_be_built(
    isolation: str, settings: dict[str, str], becomes: Dockerfiles
) -> None:
    chosen = load_settings(file=None, environ={}, isolation=isolation, **settings)
    assert offered(chosen)(Toolbox()).dockerfiles is becomes
