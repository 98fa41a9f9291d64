import pytest

from moorage.chains.signing import Fees, GasPrice, parse_gas_price


def test_first_offer_bears_the_base_fees_doubling() -> None:
    assert GasPrice(base_fee=100, tip=7).fees(max_=1_000) == Fees(207, 7)


def test_offer_is_bounded_by_what_the_operator_pays() -> None:
    assert GasPrice(base_fee=100, tip=7).fees(max_=150) == Fees(150, 7)
    assert GasPrice(base_fee=100, tip=7).fees(max_=107) == Fees(107, 7)


def test_gas_dearer_than_the_operator_pays_gets_no_offer() -> None:
    assert GasPrice(base_fee=100, tip=7).fees(max_=106) is None


@pytest.mark.parametrize("stuck", [Fees(207, 7), Fees(1, 0), Fees(8, 8), Fees(10**11, 10**9)])
def test_replacement_raises_both_fees_by_an_eighth_at_least(stuck: Fees) -> None:
    raised = GasPrice(base_fee=1, tip=0).raised(stuck, max_=10**12)
    assert raised is not None
    assert raised.max_fee_per_gas * 8 >= stuck.max_fee_per_gas * 9
    assert raised.max_priority_fee_per_gas * 8 >= stuck.max_priority_fee_per_gas * 9
    assert raised.max_priority_fee_per_gas > stuck.max_priority_fee_per_gas


def test_replacement_follows_a_base_fee_that_rose() -> None:
    raised = GasPrice(base_fee=1_000, tip=50).raised(Fees(207, 7), max_=10_000)
    assert raised == Fees(2_050, 50)


def test_replacement_is_bounded_and_bears_the_base_fee_all_the_same() -> None:
    assert GasPrice(base_fee=1_000, tip=50).raised(Fees(207, 7), max_=1_500) == Fees(1_500, 50)
    assert GasPrice(base_fee=1_000, tip=50).raised(Fees(207, 7), max_=1_049) is None
    assert GasPrice(base_fee=1, tip=0).raised(Fees(207, 7), max_=230) is None


def test_tip_never_exceeds_what_is_offered_in_all() -> None:
    price = GasPrice(base_fee=0, tip=0)
    stuck = Fees(10, 10)
    for _ in range(10):
        raised = price.raised(stuck, max_=10**6)
        assert raised is not None
        assert raised.max_priority_fee_per_gas <= raised.max_fee_per_gas
        stuck = raised


def test_price_is_read_from_block_and_tip() -> None:
    assert parse_gas_price({"baseFeePerGas": "0x64"}, "0x0") == GasPrice(100, 0)


@pytest.mark.parametrize(
    ("block", "tip"),
    [
        (None, "0x0"),
        ({}, "0x0"),
        ({"baseFeePerGas": "100"}, "0x0"),
        ({"baseFeePerGas": "0x1"}, None),
    ],
)
def test_block_without_a_base_fee_is_refused(block: object, tip: object) -> None:
    with pytest.raises(ValueError, match="quantity"):
        parse_gas_price(block, tip)
