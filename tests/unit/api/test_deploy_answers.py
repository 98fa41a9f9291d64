"""What a deploy that was accepted is answered."""

from typing import Any

import msgspec
import pytest

from moorage.api import deploy as agent
from moorage.deploy.entrance.attempt import Admitted, DeployAttempt
from moorage.payments.protocols.evidence import PaymentMeans
from moorage.planning.plan import Settings
from moorage.uploads.request import DeployRequest
from records_fixture import ALICE, ARBITRUM, PLAN, USDC

CONTRACTS = "Deployment started. Poll status for updates."


@pytest.mark.parametrize(
    ("redeploys", "months", "said"),
    [(False, 1, ""), (False, 3, ""), (True, 1, ""), (True, 3, "months")],
)
def test_redeploy_that_names_months_is_told_that_they_do_not_count(
    redeploys: bool, months: int, said: str
) -> None:
    admitted = Admitted("project", "deployment", 0, redeploys=redeploys)
    attempt = DeployAttempt(
        wallet=ALICE,
        request=DeployRequest("hello", "Hello", None, months, Settings()),
        request_digest="",
        plan=PLAN,
        means=PaymentMeans(ARBITRUM, USDC),
        evidence=None,
        use_existing_credits=False,
    )
    response = agent._accepted(admitted, attempt)
    body: dict[str, Any] = msgspec.json.decode(bytes(response.body))
    assert body["message"].startswith(CONTRACTS)
    assert (body["message"] != CONTRACTS) == bool(said)
    assert said in body["message"]
