"""Versions and ranges as npm's packages write them (semver 2.0, node-semver's range grammar).

Only releases count: a version with a prerelease part is not read, and in a range that part is
ignored, so `^2.0.0-rc.1` allows 2.0.0 and later.
"""

import re
from functools import lru_cache
from typing import NamedTuple

RANGE_LIMIT = 256  # characters


class Version(NamedTuple):
    """A release, in semver's order."""

    major: int
    minor: int
    patch: int

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}.{self.patch}"


class Span(NamedTuple):
    """The releases from `lowest` on, and below `below` if it is given."""

    lowest: Version
    below: Version | None


class Range(NamedTuple):
    """A set of releases: those in any of its spans."""

    spans: tuple[Span, ...]

    def allows(self, version: Version) -> bool:
        """Whether the release is in the range."""
        for lowest, below in self.spans:  # a loop, as this is asked most
            if lowest <= version and (below is None or version < below):
                return True
        return False

    @property
    def lowest(self) -> Version:
        """The first release of the range."""
        return min(span.lowest for span in self.spans)


ZERO = Version(0, 0, 0)
ANY = Range((Span(ZERO, None),))

_NUMBER = r"(?:0|[1-9]\d{0,8})"
_PART = rf"(?:{_NUMBER}|[xX*])"
_SUFFIX = r"(?:-[0-9A-Za-z.-]+)?(?:\+[0-9A-Za-z.-]+)?"
_RELEASE = re.compile(rf"[v=\s]*({_NUMBER})\.({_NUMBER})\.({_NUMBER})(?:\+[0-9A-Za-z.-]+)?\Z")
_PARTIAL = rf"[v=]*({_PART})(?:\.({_PART})(?:\.({_PART}){_SUFFIX})?)?"
_COMPARATOR = re.compile(rf"(>=|<=|>|<|=|~>|~|\^)?\s*{_PARTIAL}(?=\s|,|\Z)")
_HYPHEN = re.compile(rf"\s*{_PARTIAL}\s+-\s+{_PARTIAL}\s*\Z")


def version(text: str) -> Version | None:
    """Reads a release; None for anything else, such as a prerelease."""
    match = _RELEASE.match(text.strip())
    return Version(int(match[1]), int(match[2]), int(match[3])) if match else None


@lru_cache(maxsize=256)  # the versions that there are of a program: every plan asks
def releases(texts: tuple[str, ...]) -> tuple[Version, ...]:
    """Returns the releases among the texts, oldest first."""
    return tuple(sorted(found for text in texts if (found := version(text)) is not None))


@lru_cache(maxsize=256)  # those of tables and of usual packages are read in every plan
def version_range(text: str) -> Range | None:
    """Reads a range: `^ ~ > >= < <= =`, x-ranges, hyphens, `||`; None if it isn't one."""
    if len(text) > RANGE_LIMIT:
        return None
    spans: list[Span] = []
    for alternative in text.split("||"):
        span = _hyphenated(alternative) or _conjunction(alternative)
        if span is None:
            return None
        spans.append(span)
    return Range(tuple(spans))


class _Partial(NamedTuple):
    """A version with missing parts: 1 and 1.x are (1, None, None), * has no part."""

    major: int | None
    minor: int | None
    patch: int | None

    @property
    def lowest(self) -> Version:
        return Version(self.major or 0, self.minor or 0, self.patch or 0)

    @property
    def after(self) -> Version | None:
        """The first release after all that the partial matches; None when there is none."""
        if self.major is None:
            return None
        if self.minor is None:
            return Version(self.major + 1, 0, 0)
        if self.patch is None:
            return Version(self.major, self.minor + 1, 0)
        return Version(self.major, self.minor, self.patch + 1)


def _partial(parts: tuple[str | None, ...]) -> _Partial:
    numbers: list[int | None] = []
    for part in parts:
        is_open = part is None or part in "xX*" or None in numbers
        numbers.append(None if is_open else int(part or 0))
    return _Partial(*numbers)


def _hyphenated(text: str) -> Span | None:
    match = _HYPHEN.match(text)
    if match is None:
        return None
    first, last = _partial(match.groups()[:3]), _partial(match.groups()[3:])
    return Span(first.lowest, last.after)


def _conjunction(text: str) -> Span | None:
    """Returns what all comparators of a text allow; an empty text allows anything."""
    lowest, below = ZERO, None
    position = 0
    text = text.strip()
    while position < len(text):
        match = _COMPARATOR.match(text, position)
        if match is None:
            return None
        span = _compared(match[1] or "=", _partial(match.groups()[1:]))
        lowest = max(lowest, span.lowest)
        below = min((b for b in (below, span.below) if b is not None), default=None)
        position = match.end()
        while position < len(text) and text[position] in " \t\n,":
            position += 1
    return Span(lowest, below)


def _compared(operator: str, partial: _Partial) -> Span:
    lowest, after = partial.lowest, partial.after
    match operator:
        case ">=":
            return Span(lowest, None)
        case ">":
            return Span(after, None) if after is not None else Span(ZERO, ZERO)
        case "<":
            return Span(ZERO, lowest)
        case "<=":
            return Span(ZERO, after)
        case "^":
            return Span(lowest, _before_breaking(partial))
        case "~" | "~>":
            return Span(
                lowest,
                after
                if partial.patch is None
                else lowest._replace(minor=lowest.minor + 1, patch=0),
            )
    return Span(lowest, after)


def _before_breaking(partial: _Partial) -> Version | None:
    """Returns the end of a caret range: the next version whose leftmost non-zero part differs."""
    if partial.major is None or partial.minor is None or partial.major > 0:
        return _Partial(partial.major, None, None).after
    if partial.patch is None or partial.minor > 0:
        return _Partial(partial.major, partial.minor, None).after
    return partial.after
