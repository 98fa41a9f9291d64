"""A deployer's variables: how changes merge, and what bounds them."""

import pytest

from moorage.errors import InvalidField
from moorage.records.project import MAX_BYTES, MAX_ENTRIES, Variables

PRESENT = Variables(build={"TOKEN": "b"}, run={"TOKEN": "r", "MODE": "slow"})


def test_changes_set_and_remove_and_leave_the_rest_alone() -> None:
    changed = PRESENT.changed(build={}, run={"MODE": None, "NEW": "1"})
    assert changed.run == {"TOKEN": "r", "NEW": "1"}
    assert changed.build == {"TOKEN": "b"}
    assert PRESENT.run == {"TOKEN": "r", "MODE": "slow"}


def test_build_and_run_are_apart() -> None:
    changed = PRESENT.changed(build={"TOKEN": None}, run={})
    assert (changed.build, changed.run["TOKEN"]) == ({}, "r")


def test_removing_what_is_not_there_changes_nothing() -> None:
    assert PRESENT.changed(build={}, run={"NONE": None}) == PRESENT


def test_secret_is_made_once_and_never_in_place_of_a_given_one() -> None:
    made = PRESENT.with_secrets(["APP_KEY", "MODE"])
    assert made.run["MODE"] == "slow"
    assert len(made.run["APP_KEY"]) == 32
    assert made.with_secrets(["APP_KEY"]) == made
    assert PRESENT.with_secrets(["APP_KEY"]) != made
    assert made.build == PRESENT.build


def test_port_is_never_a_variable_of_its_own() -> None:
    assert Variables().changed(build={"PORT": "1"}, run={"PORT": "3000"}) == Variables()


def test_as_many_as_allowed_and_no_more() -> None:
    full = Variables().changed(build={}, run={f"V{n}": "" for n in range(MAX_ENTRIES)})
    assert len(full.run) == MAX_ENTRIES == 200
    assert full.changed(build={}, run={"V0": None, "ANOTHER": ""})
    with pytest.raises(InvalidField) as refused:
        full.changed(build={}, run={"ANOTHER": ""}, field="settings.")
    assert refused.value.field == "settings.runEnvs"


def test_all_together_are_bounded_in_bytes_with_those_there_are() -> None:
    # 32 names of 2 bytes, and "é", which takes 2 bytes of UTF-8
    most = {f"V{n:x}".ljust(2, "_")[:3]: "é" for n in range(10)}
    name_bytes = sum(map(len, most))
    rest = {"REST": "x" * (524_288 - name_bytes - 20 - 4)}
    full = Variables().changed(build=most, run={}).changed(build=rest, run={})
    assert MAX_BYTES == 524_288
    with pytest.raises(InvalidField) as refused:
        full.changed(build={"A": ""}, run={})
    assert refused.value.field == "buildVars"


def test_no_text_shows_a_value() -> None:
    said = f"{PRESENT} {PRESENT!r}"
    assert "slow" not in said
    assert "TOKEN" in said
