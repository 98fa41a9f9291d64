"""Expected outcomes are node-semver's own, from its README and range fixtures."""

import pytest

from moorage.planning.reading.semver import Version, version, version_range

INSIDE = [
    ("1.0.0 - 2.0.0", "1.2.3"),
    ("1.2 - 3.4.5", "3.4.5"),
    ("1.2.3 - 3.4", "3.4.9"),
    ("1.2.3 - 2", "2.9.9"),
    ("^1.2.3+build", "1.3.0"),
    ("1.0.0", "1.0.0"),
    (">=*", "0.2.4"),
    ("", "1.0.0"),
    ("*", "1.2.3"),
    ("x", "1.2.3"),
    (">=1.0.0", "1.1.0"),
    (">1.0.0", "1.0.1"),
    (">1", "2.0.0"),
    (">1.2", "1.3.0"),
    ("<=2.0.0", "0.2.9"),
    ("<=2", "2.9.9"),
    ("<2", "1.9.9"),
    (">= 1.0.0", "1.0.0"),
    ("0.1.20 || 1.2.4", "1.2.4"),
    (">=0.2.3 || <0.0.1", "0.0.0"),
    ("||", "1.3.4"),
    ("2.x.x", "2.1.3"),
    ("1.2.x || 2.x", "2.1.3"),
    ("~2.4", "2.4.5"),
    ("~>3.2.1", "3.2.2"),
    ("~1", "1.2.3"),
    ("~ 1.0", "1.0.2"),
    ("^1.2.3", "1.8.1"),
    ("^0.1.2", "0.1.2"),
    ("^0.1", "0.1.2"),
    ("^0.0.1", "0.0.1"),
    ("^0.0", "0.0.9"),
    ("^0.x", "0.9.9"),
    ("^1.2 ^1", "1.4.2"),
    ("^20.19.0 || >=22.12.0", "22.12.0"),
    (">=18 <21", "20.20.2"),
    ("v20.11.1", "20.11.1"),
    ("=20", "20.3.0"),
    ("^2.0.0-rc.1", "2.0.0"),
]
OUTSIDE = [
    ("1.0.0 - 2.0.0", "2.2.3"),
    ("1.2.3 - 3.4", "3.5.0"),
    ("1.2.3 - 2", "3.0.0"),
    ("^1.2.3", "2.0.0"),
    ("^1.2.3", "1.2.2"),
    ("^0.1.2", "0.2.0"),
    ("^0.0.1", "0.0.2"),
    ("^0.0", "0.1.0"),
    ("1.0.0", "1.0.1"),
    (">=1.0.0", "0.9.9"),
    (">1.0.0", "1.0.0"),
    (">1", "1.9.9"),
    (">1.2", "1.2.8"),
    ("<2.0.0", "2.0.0"),
    ("<1", "1.0.0"),
    ("2.x.x", "3.1.3"),
    ("1.2.x || 2.x", "1.1.3"),
    ("~2.4", "2.5.0"),
    ("~0.0.1", "0.1.0"),
    ("~1", "2.2.3"),
    ("^1.2 ^1.5", "1.4.2"),
    (">*", "1.2.3"),
    ("<*", "1.2.3"),
    ("^20.19.0 || >=22.12.0", "22.11.9"),
]


def allows(text: str, release: str) -> bool:
    found, asked = version_range(text), version(release)
    assert found is not None
    assert asked is not None
    return found.allows(asked)


@pytest.mark.parametrize(("text", "release"), INSIDE)
def test_range_allows(text: str, release: str) -> None:
    assert allows(text, release)


@pytest.mark.parametrize(("text", "release"), OUTSIDE)
def test_range_refuses(text: str, release: str) -> None:
    assert not allows(text, release)


@pytest.mark.parametrize(
    "text", ["lts/*", "latest", "1.2.3.4", ">", "^", "1 2 x y", ">=1 || foo", "\0", "1" * 300]
)
def test_what_is_no_range_is_none(text: str) -> None:
    assert version_range(text) is None


@pytest.mark.parametrize("text", ["1.2", "1.2.3-rc.1", "01.2.3", "a", "", "1.2.3.4"])
def test_only_releases_are_versions(text: str) -> None:
    assert version(text) is None


def test_releases_compare_by_number() -> None:
    assert version("v1.10.0") == Version(1, 10, 0)
    assert Version(1, 10, 0) > Version(1, 9, 9)
    assert str(Version(1, 10, 0)) == "1.10.0"


def test_hostile_range_takes_linear_time() -> None:
    # Nothing is measured: with one pattern of quadratic cost in a longer text this takes minutes.
    assert version_range(" " * 250 + "x.") is None
