"""What a budget allows: sums by hand, from payments as the journal has them."""

import pytest

from moorage.money import MicroUsd
from moorage.sdk.budget import Budget, read_budget, read_dollars
from moorage.sdk.errors import BudgetExceeded, ClientMisconfigured
from moorage.sdk.journal import Payment, PaymentState

DOLLAR = 1_000_000


def paid(amount: int, *, decimals: int = 6, state: PaymentState = PaymentState.SIGNED) -> Payment:
    return Payment(
        gateway="http://127.0.0.1:8402",
        wallet="0xab",
        name="hello",
        chain="arbitrum",
        chain_id=42161,
        token="usdc",
        decimals=decimals,
        amount=amount,
        pay_to="0xcd",
        nonce=7,
        tx_hash="0x01",
        raw_transaction="0x02",
        signed_at_ms=1,
        state=state,
    )


def allows(budget: Budget, price: int, *made: Payment) -> bool:
    try:
        budget.check(MicroUsd(price), made=made)
    except BudgetExceeded:
        return False
    return True


def test_without_limits_everything_is_allowed() -> None:
    assert allows(Budget(), 10**12, paid(10**12))


@pytest.mark.parametrize(("price", "allowed"), [(DOLLAR, True), (DOLLAR + 1, False)])
def test_one_call_may_cost_its_limit_and_no_more(price: int, allowed: bool) -> None:
    assert allows(Budget(per_call=MicroUsd(DOLLAR)), price, paid(5 * DOLLAR)) is allowed


@pytest.mark.parametrize("state", list(PaymentState))
def test_what_may_have_moved_money_counts_for_the_day(state: PaymentState) -> None:
    budget = Budget(per_day=MicroUsd(DOLLAR))
    moved_nothing = state in {PaymentState.REVERTED, PaymentState.REPLACED}
    assert allows(budget, 500_000, paid(500_001, state=state)) is moved_nothing
    assert allows(budget, 500_000, paid(500_000, state=state))


def test_a_token_counts_by_its_decimals_and_is_rounded_up() -> None:
    budget = Budget(per_day=MicroUsd(DOLLAR))
    assert allows(budget, 500_000, paid(5 * 10**17, decimals=18))
    assert not allows(budget, 500_000, paid(5 * 10**17 + 1, decimals=18))


def test_refusal_says_which_variable_to_raise_and_that_nothing_was_paid() -> None:
    with pytest.raises(BudgetExceeded, match=r"MOORAGE_MAX_USD_PER_CALL.*Nothing was paid"):
        Budget(per_call=MicroUsd(0)).check(MicroUsd(1), made=())
    with pytest.raises(BudgetExceeded, match=r"\$0\.75 of the \$1\.00 that MOORAGE_BUDGET_USD"):
        Budget(per_day=MicroUsd(DOLLAR)).check(MicroUsd(250_001), made=[paid(750_000)])


def test_unset_and_empty_variables_are_no_limit() -> None:
    assert read_budget({"MOORAGE_BUDGET_USD": ""}) == Budget()


def test_variables_are_dollars_and_zero_forbids_paying() -> None:
    environment = {"MOORAGE_BUDGET_USD": "2.50", "MOORAGE_MAX_USD_PER_CALL": "0"}
    assert read_budget(environment) == Budget(per_call=MicroUsd(0), per_day=MicroUsd(2_500_000))


@pytest.mark.parametrize("text", ["-1", "NaN", "Infinity", "two", "1e9"])
def test_a_budget_that_is_no_amount_is_refused(text: str) -> None:
    with pytest.raises(ClientMisconfigured, match="MOORAGE_BUDGET_USD"):
        read_budget({"MOORAGE_BUDGET_USD": text})


def test_amount_of_a_payment_is_not_zero() -> None:
    with pytest.raises(ClientMisconfigured):
        read_dollars("0", of="AMOUNT")
