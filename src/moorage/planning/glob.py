"""Path patterns, part by part: `*` and `?` within one name, `**` over any number of names.

Matching takes time in proportion to parts times names, whatever a stranger's pattern is.
"""

from fnmatch import fnmatchcase


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
            reached = {n + 1 for n in reached if n < len(names) and fnmatchcase(names[n], part)}
        if not reached:
            break
    return reached
