"""Which key was meant by one that is not known, in each body that a client sends."""

from typing import Any

import pytest

from moorage.api.http.request import parse_small
from moorage.errors import InvalidField
from moorage.hosting.entrance.configuration import change_request
from moorage.unknown_keys import Suggestions
from moorage.uploads.request import deploy_request
from moorage.wire.credits import TopUpBody
from moorage.wire.deployments import RollbackBody

REQUIRED: dict[str, Any] = {"uniqueName": "hello", "displayName": "Hello"}


def refused_deploy(document: dict[str, Any]) -> InvalidField:
    with pytest.raises(InvalidField) as refused:
        deploy_request(REQUIRED | document)
    return refused.value


@pytest.mark.parametrize(
    ("key", "named"),
    [
        ("volume", "settings.volume"),
        ("runEnvs", "settings.runEnvs"),
        ("run_envs", "settings.runEnvs"),
        ("env", "settings.runEnvs"),
        ("buildVars", "settings.buildVars"),
        ("port", "settings.port"),
        ("startCommand", "settings.runCommand"),
        ("hasDockerFile", "settings.hasDockerfile"),
        ("month", "months"),
        ("MONTHS", "months"),
        ("name", "uniqueName"),
        ("unique_name", "uniqueName"),
        ("uniqeName", "uniqueName"),
        ("title", "displayName"),
        ("setting", "settings"),
        ("files", "upload"),
    ],
)
def test_misplaced_or_misspelt_key_of_a_deploy_is_told_its_place(key: str, named: str) -> None:
    refused = refused_deploy({key: "x"})
    assert (refused.field, named in refused.problem) == (key, True)


def test_other_keys_of_a_deploy_are_passed_over_as_existing_clients_send_some() -> None:
    others = ("colour", "wallet", "metadata", "projectId", "source", "tags", "client", "chain", "")
    assert deploy_request(REQUIRED | dict.fromkeys(others, 1)).unknown == others


def test_misplaced_key_is_found_behind_any_number_of_others() -> None:
    others = {f"key{n}": n for n in range(2_000)}
    assert refused_deploy(others | {"runEnvs": {}}).field == "runEnvs"


@pytest.mark.parametrize(
    ("key", "named"),
    [
        ("env", "settings.runEnvs"),
        ("envs", "settings.runEnvs"),
        ("volumes", "settings.volume"),
        ("months", "beside settings"),
        ("colour", "volume"),  # all there are
    ],
)
def test_unknown_setting_is_told_what_was_meant_or_what_there_is(key: str, named: str) -> None:
    refused = refused_deploy({"settings": {key: "x"}})
    assert (refused.field, named in refused.problem) == (f"settings.{key}", True)


@pytest.mark.parametrize(
    ("key", "named"),
    [
        ("settings", "runEnvs"),
        ("env", "runEnvs"),
        ("runenvs", "runEnvs"),
        ("months", "POST /agent/credits"),
        ("month", "POST /agent/credits"),
        ("port", "settings.port"),
        ("runCommand", "POST /agent/deploy"),
        ("name", "displayName"),
        ("files", "POST /agent/deploy"),
        ("colour", "displayName"),
    ],
)
def test_change_that_is_made_elsewhere_is_told_where(key: str, named: str) -> None:
    with pytest.raises(InvalidField) as refused:
        change_request({key: "x"})
    assert (refused.value.field, named in refused.value.problem) == (key, True)


@pytest.mark.parametrize(
    ("kind", "body", "field", "named"),
    [
        (RollbackBody, b'{"deployment": "x"}', "deployment", "deploymentId"),
        (RollbackBody, b'{"deployment_id": "x"}', "deployment_id", "deploymentId"),
        (RollbackBody, b'{"colour": 1}', "colour", "this takes deploymentId"),
        (TopUpBody, b'{"amount": 3}', "amount", "amount_usd"),
        (TopUpBody, b'{"amountUsd": 3}', "amountUsd", "amount_usd"),
        (TopUpBody, b'{"months": 3}', "months", "this takes amount_usd"),
    ],
)
def test_unknown_key_of_a_small_body_is_told_the_known_one(
    kind: type, body: bytes, field: str, named: str
) -> None:
    with pytest.raises(InvalidField) as refused:
        parse_small(body, kind)
    assert (refused.value.field, named in refused.value.problem) == (field, True)


def test_key_in_another_spelling_or_with_one_wrong_letter_is_known_again() -> None:
    known = Suggestions({"displayName": "this"})
    alike = ("displayname", "display_name", "DISPLAY-NAME", "displayNames", "dislayName", "title")
    assert {known.advice(key) for key in alike} == {"this"}
    assert {known.advice(key) for key in ("", "display", "é" * 1_000, "name")} == {None}
