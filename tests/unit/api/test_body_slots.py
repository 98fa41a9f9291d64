"""Who loses a place for a body when all are taken, and how far a body may fall behind."""

from dataclasses import dataclass

import pytest

from moorage.api.http.connections import BodySlots, Pace, PlaceLimits
from moorage.uploads.room import Uploader

LIMITS = PlaceLimits(strangers=6, paid=4, one_uploader=3)


@dataclass(eq=False)
class Body:
    """A body as places see it: less time left is slower."""

    uploader: Uploader
    seconds_left: float = 15.0
    received_bytes: int = 0
    is_displaced: bool = False

    def displace(self) -> None:
        self.is_displaced = True


def stranger(address: str, seconds_left: float = 15.0, received_bytes: int = 0) -> Body:
    return Body(Uploader(address, has_paid=False), seconds_left, received_bytes)


def paying(wallet: str, seconds_left: float = 15.0) -> Body:
    return Body(Uploader(wallet, has_paid=True), seconds_left)


def entered(places: BodySlots[Body], *bodies: Body) -> list[Body]:
    """The bodies that were displaced by entering these."""
    for body in bodies:
        places.enter(body)
    return [body for body in bodies if body.is_displaced]


def test_slowest_of_the_address_with_most_goes() -> None:
    places = BodySlots[Body](LIMITS)
    quiet = [stranger("a", 0.1), stranger("b", 0.2), stranger("c", 0.3)]
    many = [stranger("many", left) for left in (9, 7, 8)]
    assert entered(places, *quiet, *many) == []

    newcomer = stranger("newcomer")
    assert entered(places, newcomer) == []
    assert [body.is_displaced for body in many] == [False, True, False]
    assert not any(body.is_displaced for body in quiet)


def test_of_addresses_that_have_as_many_the_slowest_goes() -> None:
    places = BodySlots[Body](LIMITS)
    bodies = [stranger(f"address {number}", 10 - number) for number in range(6)]
    assert entered(places, *bodies) == []

    entered(places, stranger("newcomer"))
    assert [body.is_displaced for body in bodies] == [False] * 5 + [True]


def test_of_those_as_slow_the_one_that_loses_least_goes() -> None:
    places = BodySlots[Body](LIMITS)
    bodies = [stranger(f"address {number}", 15, 1000 - number) for number in range(6)]
    entered(places, *bodies, stranger("newcomer"))
    assert [body.is_displaced for body in bodies] == [False] * 5 + [True]


def test_one_address_has_so_many_places_and_pays_for_more_itself() -> None:
    places = BodySlots[Body](LIMITS)
    other, own = stranger("other", 0.1), [stranger("own", left) for left in (5, 3, 4)]
    assert entered(places, other, *own) == []

    entered(places, stranger("own"))
    assert [body.is_displaced for body in own] == [False, True, False]
    assert not other.is_displaced


def test_strangers_and_wallets_that_paid_never_take_each_others_places() -> None:
    places = BodySlots[Body](LIMITS)
    paid = [paying(f"wallet {number}", 0.1) for number in range(4)]
    strangers = [stranger(f"address {number}") for number in range(6)]
    assert entered(places, *paid, *strangers) == []

    entered(places, *(stranger(f"new {number}") for number in range(20)))
    assert not any(body.is_displaced for body in paid)
    again = [stranger(f"more {number}", 20) for number in range(6)]
    entered(places, *again)
    entered(places, *(paying(f"new {number}") for number in range(20)))
    assert not any(body.is_displaced for body in again)


def test_place_that_was_left_is_free() -> None:
    places = BodySlots[Body](LIMITS)
    bodies = [stranger(f"address {number}") for number in range(6)]
    entered(places, *bodies)
    places.leave(bodies[2])
    places.leave(bodies[2])

    entered(places, stranger("newcomer"))
    assert not any(body.is_displaced for body in bodies)


def test_body_at_the_least_rate_never_falls_behind() -> None:
    pace = Pace(bytes_per_second=1000, grace_seconds=10)
    for _ in range(1000):
        pace.waited(5)
        assert pace.seconds_left >= 5
        pace.received(5000)


def test_trickle_has_the_grace_and_no_more() -> None:
    pace = Pace(bytes_per_second=1000, grace_seconds=10)
    seconds = 0
    while pace.seconds_left > 0:
        pace.waited(1)
        pace.received(100)
        seconds += 1
    assert seconds == 12  # each costs 0.9 s, the first and the last as well


def test_what_came_fast_at_first_buys_no_time_later() -> None:
    pace = Pace(bytes_per_second=1000, grace_seconds=10)
    pace.received(36_000_000)
    assert pace.seconds_left == pytest.approx(10)
