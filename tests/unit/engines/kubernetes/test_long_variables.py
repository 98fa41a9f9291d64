"""Variables that no Secret or process takes are told to whoever has set them."""

import pytest

from moorage.engines.kubernetes.running.app import require_short
from moorage.errors import DeployFailed, FailureCause


def test_usual_variables_are_taken() -> None:
    for variables in ({}, {"A": "x" * 90_000}, {f"V{n}": "x" * 2_000 for n in range(200)}):
        require_short(variables, setting="runEnvs", cause=FailureCause.CRASHED)


@pytest.mark.parametrize(
    "variables",
    [
        {"A": "x" * 100_000},
        {"A": "\u20ac" * 34_000},
        {f"V{number}": "x" * 32_768 for number in range(16)},
    ],
    ids=["long", "wide", "many"],
)
def test_too_long_ones_are_named(variables: dict[str, str]) -> None:
    with pytest.raises(DeployFailed, match="runEnvs are too long") as failed:
        require_short(variables, setting="runEnvs", cause=FailureCause.CRASHED)
    assert failed.value.cause is FailureCause.CRASHED
