"""Charts as data, and as the table that says the same."""

import json
import re

import pytest
from jinja2 import Environment

from moorage.pages.rendering.formatting import Chart, Marker, Series, Unit


def chart(unit: Unit = "count", values: list[float | None] | None = None) -> Chart:
    values = [1.0] if values is None else values
    times = [1_700_000_000 + 60 * at for at in range(len(values))]
    return Chart(unit=unit, times=times, series=[Series("Requests", values)])


@pytest.mark.parametrize(
    ("unit", "value", "words"),
    [
        ("bytes", 512 * 1024**2, "512 MiB"),
        ("cores", 0.25, "0.25 cores"),
        ("cores", 1, "1 core"),
        ("ms", 250.4, "250 ms"),
        ("ms", 1500, "1.50 s"),
        ("percent", 12.5, "12.5 %"),
        ("percent", 100, "100 %"),
        ("count", 1_234_567, "1,234,567"),
        ("count", 0.5, "0.5"),
        ("usd", 1.5, "$1.50"),
    ],
)
def test_a_value_has_its_unit(unit: Unit, value: float, words: str) -> None:
    assert chart(unit).written(value) == words


def test_a_long_chart_is_told_in_few_rows_that_keep_each_peak() -> None:
    values: list[float | None] = [0.0] * 1_000
    values[777] = 99.0
    rows = chart(values=values).rows
    assert len(rows) <= 48
    assert [cells for _, cells in rows].count(["99"]) == 1


def test_a_row_begins_where_its_span_does() -> None:
    assert chart(values=[1.0, None]).rows == [
        ("2023-11-14 22:13 UTC", ["1"]),
        ("2023-11-14 22:14 UTC", ["–"]),
    ]


def test_nothing_measured_is_an_empty_chart() -> None:
    assert chart(values=[None, None]).is_empty
    assert chart(values=[]).is_empty
    assert chart(values=[]).rows == []
    assert not chart(values=[None, 0.0]).is_empty


def test_series_without_a_value_for_each_time_are_refused() -> None:
    with pytest.raises(ValueError, match="one value for each time"):
        Chart(unit="count", times=[1, 2], series=[Series("Requests", [1.0])])


def test_a_strangers_label_ends_no_script() -> None:
    data = Chart(
        unit="count",
        times=[1],
        series=[Series("</script><script>alert(1)</script>", [1.0])],
        markers=[Marker(1, "<!--")],
    ).data
    written = Environment(autoescape=True).from_string("{{ data|tojson }}").render(data=data)
    assert not re.search(r"[<>&']", written)
    assert json.loads(written) == data
