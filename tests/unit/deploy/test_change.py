"""What may be changed of a project, and how a body says it."""

from typing import Any

import pytest

from moorage.deploy.entrance.configuration import Change, change_request
from moorage.errors import InvalidField


def test_every_change_is_taken() -> None:
    assert change_request(
        {
            "displayName": "Shop",
            "description": "sells",
            "healthPath": "/up",
            "runEnvs": {"A": "$1\n'\"", "B": None},
            "buildVars": {"C": ""},
            "volume": True,
            "restart": True,
        }
    ) == Change(
        display_name="Shop",
        description="sells",
        health_path="/up",
        run_envs={"A": "$1\n'\"", "B": None},
        build_vars={"C": ""},
        volume=True,
        restart=True,
    )


def test_pausing_stands_alone() -> None:
    assert change_request({"paused": False}) == Change(paused=False)
    with pytest.raises(InvalidField, match="alone"):
        change_request({"paused": True, "restart": True})


def test_nothing_asks_for_nothing() -> None:
    assert change_request({}) == Change()


def test_null_is_what_a_project_has_at_first() -> None:
    changed = change_request({"description": None, "healthPath": None})
    assert changed == Change(description="", health_path="/")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ([], "body"),
        ("x", "body"),
        ({"uniqueName": "other"}, "uniqueName"),
        ({"runenvs": {}}, "runenvs"),
        ({"x" * 100: 1}, "x" * 64),
        ({"displayName": None}, "displayName"),
        ({"displayName": ""}, "displayName"),
        ({"displayName": "x" * 101}, "displayName"),
        ({"description": 7}, "description"),
        ({"healthPath": "up"}, "healthPath"),
        ({"healthPath": "/\r\nX: 1"}, "healthPath"),
        ({"healthPath": 7}, "healthPath"),
        ({"runEnvs": None}, "runEnvs"),
        ({"runEnvs": []}, "runEnvs"),
        ({"runEnvs": {"A": 1}}, "runEnvs.A"),
        ({"runEnvs": {"1A": ""}}, "runEnvs"),
        ({"runEnvs": {"A": "\0"}}, "runEnvs.A"),
        ({"runEnvs": {"A": "\ud800"}}, "runEnvs.A"),
        ({"runEnvs": {"A": "x" * 32_769}}, "runEnvs.A"),
        ({"runEnvs": {"PORT": "80"}}, "runEnvs.PORT"),
        ({"buildVars": {"PORT": None}}, "buildVars.PORT"),
        ({"buildVars": {f"A{n}": None for n in range(201)}}, "buildVars"),
        ({"volume": False}, "volume"),  # it would take data away
        ({"volume": None}, "volume"),
        ({"restart": 1}, "restart"),
        ({"paused": None}, "paused"),
        ({"restart": None}, "restart"),
    ],
)
def test_what_breaks_a_rule_is_refused_by_name(body: Any, field: str) -> None:
    with pytest.raises(InvalidField) as refused:
        change_request(body)
    assert refused.value.field == field


def test_a_refusal_repeats_no_value() -> None:
    for body in ({"runEnvs": {"A": "hunter2\0"}}, {"buildVars": {"A": "hunter2" * 9_000}}):
        with pytest.raises(InvalidField) as refused:
            change_request(body)
        assert "hunter2" not in refused.value.message
