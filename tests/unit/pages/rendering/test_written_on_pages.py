"""How amounts, times, sizes and strangers' texts are written on pages."""

import pytest
from jinja2 import Environment
from markupsafe import Markup

from moorage.money import MicroUsd
from moorage.pages.rendering.formatting import (
    FILTERS,
    about,
    bytes_text,
    duration,
    harmless,
    link,
    named,
    short,
    trimmed,
    usd,
    worked,
)


@pytest.mark.parametrize(
    ("amount", "words"),
    [
        (0, "$0.00"),
        (685, "$0.000685"),
        (4_999, "$0.004999"),
        (500_000, "$0.50"),
        (500_050, "about $0.50"),
        (5_000_500_001, "about $5,000.50"),
    ],
)
def test_amount_to_the_cent_says_that_it_is_about(amount: int, words: str) -> None:
    assert about(MicroUsd(amount)) == words


def test_large_amounts_are_grouped_and_exact() -> None:
    assert usd(MicroUsd(1_234_567_890_001)) == "$1,234,567.890001"
    assert usd(MicroUsd(-12_345_000_000)) == "-$12,345.00"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0 seconds"),
        (61, "1 minute 1 second"),
        (90_000, "1 day 1 hour"),
        (86_460, "1 day 1 minute"),
    ],
)
def test_a_length_of_time_has_its_two_largest_units(seconds: float, words: str) -> None:
    assert duration(seconds) == words


@pytest.mark.parametrize(
    ("size", "words"),
    [(0, "0 bytes"), (1023, "1023 bytes"), (1536, "1.5 KiB"), (512 * 1024**2, "512 MiB")],
)
def test_a_size_has_the_unit_that_fits(size: int, words: str) -> None:
    assert bytes_text(size) == words


def test_a_long_hash_is_shortened_and_whole_in_its_title() -> None:
    address = "0x" + "ab" * 20
    assert short(address) == f'<abbr class="hex" title="{address}">0xababab…abab</abbr>'
    assert short('"><script>' * 3).count("<script>") == 0


@pytest.mark.parametrize(
    ("target", "leads_to"),
    [
        ("https://example.com/terms", "https://example.com/terms"),
        ("operator@example.com", "mailto:operator@example.com"),
        ("mailto:operator@example.com", "mailto:operator@example.com"),
        ("javascript:alert(1)", "#"),
        ("JavaScript:alert(1)//@", "#"),
        ("data:text/html,<script>", "#"),
        ("\x01javascript:alert(1)", "#"),
        ("nowhere", "#"),
    ],
)
def test_links_lead_to_web_and_mail_addresses_alone(target: str, leads_to: str) -> None:
    assert link(target) == leads_to


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31;1mred\x1b[0m", "red"),
        ("\x1b]0;title\x07after", "after"),
        ("\x1b]8;;http://evil\x1b\\link", "link"),
        ("pay \u202eevil", "pay ‹U+202E›evil"),
        ("zero\u200bwidth", "zero‹U+200B›width"),
        ("tab\tand ümläut 漢字 🚢", "tab\tand ümläut 漢字 🚢"),
        ("bell\x07", "bell‹U+0007›"),
    ],
)
def test_what_would_hide_or_turn_text_is_seen(text: str, shown: str) -> None:
    assert harmless(text) == shown


def test_a_time_has_its_zone_and_is_relative_to_the_page() -> None:
    environment = Environment(autoescape=True)
    environment.filters.update(FILTERS)
    written = environment.from_string("{{ at|when }}")
    at, now = 1_700_000_000_000, 1_700_000_060_000
    assert written.render(at=at, now_ms=now) == (
        '<span class="when"><time datetime="2023-11-14T22:13:20.000Z">'
        '2023-11-14 22:13:20 UTC</time> <span class="ago">1 minute ago</span></span>'
    )
    assert written.render(at=None, now_ms=now) == "never"


@pytest.mark.parametrize(
    ("amount", "expected"),
    [("10.000000", "10.00"), ("0.500001", "0.500001"), ("7", "7"), ("1.230000", "1.23")],
)
def test_amounts_of_tokens_keep_every_digit_that_says_something(amount: str, expected: str) -> None:
    assert trimmed(amount) == expected


@pytest.mark.parametrize(
    ("milliseconds_used", "text"),
    [
        (0, "0 ms"),
        (115, "115 ms"),
        (1_234, "1.23 s"),
        (59_999, "60.00 s"),
        (61_000, "1 minute 1 second"),
    ],
)
def test_processor_time_below_a_second_is_told(milliseconds_used: int, text: str) -> None:
    assert worked(milliseconds_used) == text


def test_each_cell_of_a_table_bears_its_columns_name_for_narrow_screens() -> None:
    rows = Markup(
        '<tr><th scope="row">a</th><td class="num">{}</td></tr><tr class="x"><td>c</td></tr>'
    )
    found = named(rows.format("<td>"), ["<Name>", ("Sum", "num")])
    assert found == Markup(
        '<tr><th data-column="&lt;Name&gt;" scope="row">a</th>'
        '<td data-column="Sum" class="num">&lt;td&gt;</td></tr>'
        '<tr class="x"><td data-column="&lt;Name&gt;">c</td></tr>'
    )
