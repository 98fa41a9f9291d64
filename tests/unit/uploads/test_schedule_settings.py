"""What is wrong with a schedule is a 400 that names the field, before anybody pays."""

from typing import Any

import pytest

from moorage.errors import InvalidField
from moorage.uploads.request import deploy_settings

RIGHT = {"name": "nightly", "cron": "0 3 * * *", "command": "./nightly"}


def refused(*schedules: dict[str, Any]) -> str:
    with pytest.raises(InvalidField) as error:
        deploy_settings({"schedules": list(schedules)})
    return error.value.field


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"cron": "0 0 30 2 *"}, "cron"),
        ({"cron": "0 0 * * * *"}, "cron"),
        ({"cron": "61 * * * *"}, "cron"),
        ({"cron": 7}, "cron"),
        ({"timezone": "Mars/Olympus"}, "timezone"),
        ({"timezone": "localtime"}, "timezone"),
        ({"timezone": "../../etc/passwd"}, "timezone"),
        ({"timezone": "America"}, "timezone"),
        ({"path": "/both"}, "command"),
        ({"command": None}, "command"),
        ({"command": ""}, "command"),
        ({"command": "x" * 4_097}, "command"),
        ({"command": None, "path": "relative"}, "path"),
        ({"timeout_seconds": 3_601}, "timeout_seconds"),
        ({"timeout_seconds": 0}, "timeout_seconds"),
        ({"name": "two words"}, "name"),
    ],
)
def test_field_of_a_schedule_that_is_wrong_is_named(wrong: dict[str, Any], field: str) -> None:
    assert refused(RIGHT, {**RIGHT, "name": "second", **wrong}) == f"settings.schedules.1.{field}"


def test_two_schedules_have_names_of_their_own() -> None:
    assert refused(RIGHT, RIGHT) == "settings.schedules.1.name"


def test_twenty_schedules_are_taken_and_no_more() -> None:
    many = [{**RIGHT, "name": f"n{number}"} for number in range(21)]
    assert len(deploy_settings({"schedules": many[:20]}).schedules) == 20
    assert refused(*many) == "settings.schedules"
