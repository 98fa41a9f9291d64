"""Names that projects may have, hosts that stand for projects, and domains that may be claimed."""

import pytest

from moorage.errors import InvalidField
from moorage.hosting.addresses.addresses import RESERVED_NAMES, Hosts, is_reserved
from moorage.records.domain import DomainRules, new_token
from moorage.uploads.request import deploy_request

ASKED_FOR = (
    "mail wpad mta-sts admin autodiscover autoconfig isatap localhost smtp imap webmail postmaster "
    "hostmaster security abuse status login account www api ftp ns1 ns12 mail2 mx-1 www3 "
    "xn--pypal-4ve"
)


@pytest.mark.parametrize("name", ASKED_FOR.split())
def test_name_that_programs_or_people_take_for_the_domains_own_is_reserved(name: str) -> None:
    assert is_reserved(name)


@pytest.mark.parametrize("name", ["shop", "mailing", "my-admin", "ns-monitor", "wpads", "www-shop"])
def test_name_that_is_only_like_one_is_not(name: str) -> None:
    assert not is_reserved(name)


def test_gateways_own_name_is_reserved() -> None:
    assert is_reserved("harbour", own="harbour")
    assert not is_reserved("harbour", own="quay")
    assert not is_reserved("harbour")


@pytest.mark.parametrize("name", ["_dmarc", "_acme-challenge", "_moorage", "a_bcd"])
def test_name_with_an_underscore_is_no_name_at_all(name: str) -> None:
    with pytest.raises(Exception, match="must be 4–32"):
        deploy_request({"uniqueName": name, "displayName": "x"})


def test_reserved_names_are_written_as_names_are() -> None:
    assert {name for name in RESERVED_NAMES if name != name.lower() or not name.strip("-")} == set()


HOSTS = Hosts(base_domain="apps.example.com", scheme="https", port=None)


@pytest.mark.parametrize(
    ("port", "url"),
    [(None, "https://hello.apps.example.com"), (8443, "https://hello.apps.example.com:8443")],
)
def test_address_names_the_port_unless_it_is_the_schemes_own(port: int | None, url: str) -> None:
    assert Hosts(base_domain="apps.example.com", scheme="https", port=port).url("hello") == url


def test_name_leads_to_its_host_and_back() -> None:
    assert HOSTS.host("hello") == "hello.apps.example.com"
    assert HOSTS.unique_name(HOSTS.host("hello")) == "hello"


@pytest.mark.parametrize(
    "host",
    [
        *("", "hello", "apps.example.com", "hello.example.com", "a.b.apps.example.com"),
        *("hello.apps.example.com.", "hello.apps.example.com:8080", "hello.apps.example.org"),
    ],
)
def test_other_hosts_stand_for_no_project(host: str) -> None:
    assert HOSTS.unique_name(host) is None


def test_name_is_known_at_a_former_domain_as_well() -> None:
    hosts = Hosts(
        base_domain="new.example", scheme="https", port=None, former_domains=("old.example",)
    )
    assert hosts.host("hello") == "hello.new.example"
    assert hosts.former_hosts("hello") == ["hello.old.example"]
    assert hosts.unique_name("hello.old.example") == "hello"
    assert hosts.unique_name("hello.other.example") is None


RULES = DomainRules(
    base_domains=("apps.example.com",), gateway_host="gateway.example.com", max_length=91
)


@pytest.mark.parametrize(
    ("text", "host"),
    [
        ("shop.example", "shop.example"),
        ("WWW.Shop.Example.", "www.shop.example"),
        (" shop.example ", "shop.example"),
        ("bücher.example", "xn--bcher-kva.example"),  # RFC 3492, 7.1's kind of name
        ("xn--bcher-kva.example", "xn--bcher-kva.example"),
        ("1.example", "1.example"),
        ("example.com", "example.com"),  # above the gateway's own, and to be proved like any
        ("myapps.example.com", "myapps.example.com"),
        ("a" * 63 + ".example", "a" * 63 + ".example"),
    ],
)
def test_host_name_is_taken_as_routes_spell_it(text: str, host: str) -> None:
    assert RULES.host(text) == host


@pytest.mark.parametrize(
    "text",
    [
        *("", ".", "..", "shop", "localhost", "a..example", ".example", "-a.example", "a-.example"),
        *("*.example.com", "a_b.example", "a b.example", "a.example\n.b", "http://a.example"),
        *("a.example:80", "a.example/x", "../../x.example", "xn--.example", "☃.example"),
        *("127.0.0.1", "１２７.0.0.1", "a.1", "a.0x7f", "[::1]", "::1"),
        *("apps.example.com", "shop.apps.example.com", "a.b.apps.example.com"),
        "gateway.example.com",
        *("a" * 64 + ".example", "a." * 43 + "example", "a" * 10_000),
        "\ud800.example",
    ],
)
def test_what_no_project_may_have_is_refused(text: str) -> None:
    with pytest.raises(InvalidField, match=r"^domain: ") as refused:
        RULES.host(text)
    assert refused.value.field == "domain"


def test_longest_host_that_routes_can_take_is_taken() -> None:
    longest = "a" * 41 + "." + "b" * 41 + ".example"
    assert len(longest) == 91
    assert RULES.host(longest) == longest
    with pytest.raises(InvalidField, match="91 characters"):
        RULES.host("a" + longest)


def test_tokens_are_not_to_be_guessed() -> None:
    tokens = {new_token() for _ in range(100)}
    assert len(tokens) == 100
    assert {len(token) for token in tokens} == {32}
