"""What a deploy that was accepted is answered."""

from typing import Any

import msgspec
import pytest

from moorage.api.deploy import accepted
from moorage.deploy.entrance.attempt import Admitted

CONTRACTS = "Deployment started. Poll status for updates."


@pytest.mark.parametrize(
    ("redeploys", "months", "said"),
    [(False, 1, ""), (False, 3, ""), (True, 1, "kept"), (True, 3, "months does not count")],
)
def test_redeploy_is_told_what_is_kept_and_that_months_do_not_count(
    redeploys: bool, months: int, said: str
) -> None:
    admitted = Admitted("project", "deployment", 0, redeploys=redeploys, months=months)
    response = accepted(admitted)
    body: dict[str, Any] = msgspec.json.decode(bytes(response.body))
    assert body["message"].startswith(CONTRACTS)
    assert (body["message"] != CONTRACTS) == bool(said)
    assert said in body["message"]
