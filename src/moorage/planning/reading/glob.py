"""Path patterns, part by part: `*` and `?` within one name, `**` over any number of names.

Matching takes time in proportion to parts times names, whatever a stranger's pattern is.
"""

import re
from fnmatch import translate
from functools import lru_cache

_PART_LIMIT = 512  # characters; a name has at most 255
_KEPT = 256  # compiled parts: `fnmatch` itself keeps 32,768, of any length, from job to job


def parts(glob: str) -> list[str]:
    """Splits a glob into its parts; several `**` in a row become one."""
    found = glob.split("/")
    return [p for n, p in enumerate(found) if p != "**" or n == 0 or found[n - 1] != "**"]


def matches(glob: list[str], names: list[str]) -> bool:
    """Whether a glob's parts match all of a path's names."""
    if len(glob) - glob.count("**") > len(names):
        return False
    return len(names) in _reached(glob, names)


def covers(glob: list[str], names: list[str]) -> bool:
    """Whether a glob's parts match the path or a directory around it."""
    return bool(_reached(glob, names) - {0})


def _reached(glob: list[str], names: list[str]) -> set[int]:
    """Returns how many of the names the parts may have taken."""
    reached = {0}
    for part in glob:
        if part == "**":
            reached = set(range(min(reached), len(names) + 1)) if reached else reached
        else:
            reached = {n + 1 for n in reached if n < len(names) and _is_match(part, names[n])}
        if not reached:
            break
    return reached


def _is_match(part: str, name: str) -> bool:
    return len(part) <= _PART_LIMIT and _compiled(part).match(name) is not None


@lru_cache(maxsize=_KEPT)
def _compiled(part: str) -> re.Pattern[str]:
    return re.compile(translate(part))
