"""Who has to go when there are too many connections: never a newcomer for what another has."""

from dataclasses import dataclass

from moorage.api.http.connections import ConnectionTable


@dataclass(eq=False)
class Client:
    """A connection that waits for a request since a moment, or that has one."""

    waiting_since: float
    is_waiting: bool = True


def filled(
    table: ConnectionTable[Client], address: str | None, count: int, *, since: float = 0
) -> list[Client]:
    """`count` connections of an address, the first of which waits longest; none has to go."""
    clients = [Client(since + number) for number in range(count)]
    for client in clients:
        assert table.enter(client, address) == []
    return clients


def test_address_that_has_most_pays_for_a_newcomer() -> None:
    table = ConnectionTable[Client](limit=10, limit_by_address=9)
    quiet = filled(table, "quiet", 2, since=-100)
    many = filled(table, "many", 8)

    assert table.enter(Client(50), "newcomer") == [many[0]]
    assert table.enter(Client(51), "newcomer") == [many[1]]
    assert quiet[0].is_waiting  # longer than any, and stays


def test_each_of_many_addresses_pays_in_turn_once_they_have_as_few() -> None:
    table = ConnectionTable[Client](limit=6, limit_by_address=5)
    first, second = filled(table, "a", 3), filled(table, "b", 3)

    gone = [table.enter(Client(50 + number), f"new {number}")[0] for number in range(4)]

    assert {gone[0], gone[1]} == {first[0], second[0]}
    assert {gone[2], gone[3]} == {first[1], second[1]}


def test_address_with_too_many_pays_itself() -> None:
    table = ConnectionTable[Client](limit=100, limit_by_address=4)
    filled(table, "larger", 4, since=-100)
    own = filled(table, "own", 4)

    assert table.enter(Client(50), "own") == [own[0]]


def test_connection_with_a_request_stays() -> None:
    table = ConnectionTable[Client](limit=3, limit_by_address=3)
    busy = filled(table, "many", 3)
    for client in busy:
        client.is_waiting = False
    newcomer = Client(50)

    assert table.enter(newcomer, "newcomer") == [newcomer]  # nobody else waits

    busy[1].is_waiting = True
    assert table.enter(Client(51), "newcomer") == [busy[1]]


def test_connections_of_proxies_have_no_limit_by_address_and_go_last() -> None:
    table = ConnectionTable[Client](limit=6, limit_by_address=2)
    proxys = filled(table, None, 5, since=-100)
    client = filled(table, "client", 1)

    assert table.enter(Client(50), None) == client
    assert table.enter(Client(51), None) == [proxys[0]]


def test_closed_connections_make_room() -> None:
    table = ConnectionTable[Client](limit=3, limit_by_address=3)
    clients = filled(table, "a", 3)
    table.leave(clients[1], "a")
    table.leave(clients[1], "a")  # it was closed, and is told again

    filled(table, "b", 1)
    assert table.enter(Client(50), "c") == [clients[0]]
    table.leave(clients[0], "a")  # it had to go, and is closed now
    assert table.enter(Client(51), "d") != []


def test_flood_makes_room_for_several_at_once() -> None:
    table = ConnectionTable[Client](limit=1280, limit_by_address=1280)
    many = filled(table, "many", 1280)

    assert table.enter(Client(5000), "newcomer") == many[:20]
    assert table.enter(Client(5001), "newcomer") == []
