import pytest

from moorage.errors import InvalidField
from moorage.records.domain import DomainRules, new_token

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
