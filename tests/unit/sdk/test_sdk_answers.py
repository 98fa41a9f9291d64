"""Answers of gateways that are older or newer than the client are read all the same."""

import msgspec
import pytest

from moorage.sdk.transport import read_answer
from moorage.wire.credits import Credits
from moorage.wire.deploy import Deployed
from moorage.wire.deployments import DeploymentItem, DeploymentProgress
from moorage.wire.logs import LogBody
from moorage.wire.projects import ProjectList, ProjectShown
from moorage.wire.public import Health


def test_fields_of_a_newer_gateway_are_ignored() -> None:
    content = b'{"projectId": "p", "deploymentId": "d", "status": "deploying", "since": [1]}'
    assert read_answer(content, Deployed).project_id == "p"


def test_words_of_a_newer_gateway_are_kept() -> None:
    content = b'{"status": "resting", "deployment_id": "d", "reason_code": "weather"}'
    progress = read_answer(content, DeploymentProgress)
    assert (str(progress.status), progress.reason_code) == ("resting", "weather")
    listed = b'{"wallet": "w", "count": 1, "projects": [{"id": "p", "name": "n", "status": "odd"}]}'
    (project,) = read_answer(listed, ProjectList).projects
    assert str(project.status) == "odd"


def test_known_words_equal_those_of_the_contract() -> None:
    item = read_answer(b'{"id": "d", "status": "ready", "origin": "rollback"}', DeploymentItem)
    assert (item.status, item.origin) == ("ready", "rollback")


def test_gateway_of_part_1_alone_is_understood() -> None:
    shown = read_answer(b'{"id": "p", "name": "n", "status": "active"}', ProjectShown)
    assert (shown.health_path, shown.url, shown.domains, shown.volume) == ("/", None, [], False)
    assert not shown.suspended_because
    page = read_answer(b'{"lines": [], "next": "0"}', LogBody)
    assert (page.kept, page.ended) == (True, False)


def test_absent_lists_are_not_shared() -> None:
    first, second = (
        read_answer(b'{"id": "p", "name": "n", "status": "active"}', ProjectShown) for _ in range(2)
    )
    assert first.domains is not second.domains


@pytest.mark.parametrize("shape", [Credits, Deployed, Health, ProjectList])
def test_nothing_said_is_never_taken_for_an_answer(shape: type[msgspec.Struct]) -> None:
    with pytest.raises(msgspec.ValidationError):
        read_answer(b"{}", shape)
