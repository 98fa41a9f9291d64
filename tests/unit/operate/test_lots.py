"""Which money was earned: first in, first out, and what goes back goes to where it came from."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moorage.errors import BooksWrong
from moorage.operate.reports.revenue import Lots, Source

ARBITRUM, BASE = Source(42161, "usdc"), Source(8453, "usdc")
WALLET = "wallet:0xa"


def test_the_oldest_credits_are_used_first() -> None:
    lots = Lots()
    lots.add(WALLET, ARBITRUM, 100)
    lots.add(WALLET, BASE, 50)
    lots.use(WALLET, 120)
    assert lots.earned == {ARBITRUM: 100, BASE: 20}
    assert lots.owed() == {BASE: 30}


def test_credits_of_one_wallet_pay_for_no_other() -> None:
    lots = Lots()
    lots.add("wallet:0xb", ARBITRUM, 100)
    with pytest.raises(BooksWrong):
        lots.use(WALLET, 1)


def test_what_goes_back_is_of_its_own_chain_though_older_credits_are_there() -> None:
    lots = Lots()
    lots.add(WALLET, ARBITRUM, 100)
    lots.add(WALLET, BASE, 50)
    lots.take_back(WALLET, BASE, 50)
    assert (lots.owed(), lots.earned) == ({ARBITRUM: 100}, {})


def test_what_goes_back_though_it_was_used_was_earned_of_the_others_instead() -> None:
    lots = Lots()
    lots.add(WALLET, ARBITRUM, 100)
    lots.add(WALLET, BASE, 50)
    lots.use(WALLET, 80)  # all of it Arbitrum's
    lots.take_back(WALLET, ARBITRUM, 60)  # 20 unused, 40 of what was used
    assert lots.earned == {ARBITRUM: 40, BASE: 40}
    assert +lots.owed() == {BASE: 10}


def test_an_overdrawn_wallet_owes_until_its_next_payment() -> None:
    lots = Lots()
    lots.add(WALLET, ARBITRUM, 100)
    lots.use(WALLET, 100)
    lots.take_back(WALLET, ARBITRUM, 100)
    assert lots.owed() == {ARBITRUM: -100}
    lots.add(WALLET, BASE, 130)
    assert (+lots.earned, +lots.owed()) == ({BASE: 100}, {BASE: 30})


steps = st.lists(
    st.tuples(
        st.sampled_from(["add", "use", "take_back", "move"]),
        st.sampled_from([WALLET, "wallet:0xb", "project:q"]),
        st.sampled_from([ARBITRUM, BASE]),
        st.integers(0, 20),
    ),
    max_size=40,
)


@given(steps)
def test_what_came_in_less_what_went_back_and_was_earned_is_owed(
    moves: list[tuple[str, str, Source, int]],
) -> None:
    lots, came, balances = Lots(), Counter[Source](), Counter[str]()
    earned = 0
    for move, wallet, source, amount in moves:
        match move:
            case "add":
                lots.add(wallet, source, amount)
                came[source] += amount
                balances[wallet] += amount
            case "use":
                used = max(0, min(amount, balances[wallet]))
                lots.use(wallet, used)
                balances[wallet] -= used
                earned += used
            case "take_back":
                lots.take_back(wallet, source, amount)
                came[source] -= amount
                balances[wallet] -= amount
            case "move":  # between a wallet and a purse, which may owe
                giver, taker = sorted([wallet, "project:q"], reverse=source == ARBITRUM)
                moved = max(0, min(amount, balances[giver]), -balances[taker])
                lots.move(giver, taker, moved)
                balances[giver] -= moved
                balances[taker] += moved
    owed = lots.owed()
    assert all(came[each] - lots.earned[each] == owed[each] for each in (ARBITRUM, BASE))
    assert sum(owed.values()) == sum(balances.values())
    assert sum(lots.earned.values()) == earned
