"""What a resolver's answers are taken for."""

from collections.abc import AsyncIterator

import dns.rcode
import pytest

from moorage.hosting.addresses.domains import LookupFailed, TxtRecords
from support.engines.name_server import NameServer, name_server

NAME = "_moorage.app.example.com"


@pytest.fixture
async def server() -> AsyncIterator[NameServer]:
    async with name_server() as made:
        yield made


@pytest.fixture
def records(server: NameServer) -> TxtRecords:
    return TxtRecords([server.address], timeout_seconds=30)


async def test_all_texts_of_a_name_are_found(server: NameServer, records: TxtRecords) -> None:
    server.texts[NAME] = ["v=spf1 -all", "moorage-verification=abc"]
    assert await records.look(NAME) == {"v=spf1 -all", "moorage-verification=abc"}


async def test_text_of_several_strings_is_one(server: NameServer, records: TxtRecords) -> None:
    server.texts[NAME] = ["x" * 300]
    assert await records.look(NAME) == {"x" * 300}


async def test_alias_is_followed(server: NameServer, records: TxtRecords) -> None:
    server.aliases[NAME] = "proof.example.net"
    server.texts["proof.example.net"] = ["moorage-verification=abc"]
    assert await records.look(NAME) == {"moorage-verification=abc"}


async def test_answer_cut_short_is_asked_for_over_tcp(
    server: NameServer, records: TxtRecords
) -> None:
    server.texts[NAME] = ["moorage-verification=abc"]
    server.cut_short.add(NAME)
    assert await records.look(NAME) == {"moorage-verification=abc"}
    assert server.asked == [NAME, NAME]


async def test_name_that_does_not_exist_has_no_texts(records: TxtRecords) -> None:
    assert await records.look(NAME) == frozenset()


async def test_name_of_other_records_has_no_texts(server: NameServer, records: TxtRecords) -> None:
    server.texts[NAME] = []  # NOERROR without an answer
    assert await records.look(NAME) == frozenset()


@pytest.mark.parametrize("code", [dns.rcode.SERVFAIL, dns.rcode.REFUSED])
async def test_failure_of_the_servers_says_nothing_about_the_name(
    server: NameServer, records: TxtRecords, code: dns.rcode.Rcode
) -> None:
    server.failures[NAME] = code
    with pytest.raises(LookupFailed):
        await records.look(NAME)


async def test_silence_says_nothing_about_the_name(server: NameServer) -> None:
    server.silent.add(NAME)
    with pytest.raises(LookupFailed, match=r"no answer within 0\.3 s"):
        await TxtRecords([server.address], timeout_seconds=0.3).look(NAME)


async def test_endless_aliases_say_nothing_about_the_name(
    server: NameServer, records: TxtRecords
) -> None:
    server.aliases[NAME] = NAME
    with pytest.raises(LookupFailed):
        await records.look(NAME)


async def test_record_of_a_thousand_texts_is_read_in_part(
    server: NameServer, records: TxtRecords
) -> None:
    server.texts[NAME] = [f"text {number}" for number in range(1000)]
    server.cut_short.add(NAME)
    assert len(await records.look(NAME)) <= 50


@pytest.mark.parametrize("server", ["", "resolver.example", "1.2.3.4:dns", "1.2.3"])
def test_resolver_that_is_no_address_is_refused(server: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 (ipaddress and int word it differently)
        TxtRecords([server])


@pytest.mark.parametrize("server", ["127.0.0.1", "127.0.0.1:5353", "::1", "[::1]:5353"])
def test_resolver_may_have_a_port(server: str) -> None:
    TxtRecords([server])
