"""Which files of a directory are left out: by gitignore(5), as git reads it.

Patterns come from DEFAULTS, then from `.gitignore` and `.moorageignore` of each directory,
outermost first; the last one that matches decides. An ignored directory is not searched, so nothing
below it can be included again. `.git` is always left out. One difference: `?` and `[…]` match a
character, where git matches a byte.
"""

import re
from collections.abc import Iterable

import msgspec

IGNORE_FILES = (".gitignore", ".moorageignore")

DEFAULTS = (
    ".git",
    ".moorage/",
    "node_modules/",
    ".venv/",
    "venv/",
    "__pycache__/",
    "*.pyc",
    ".DS_Store",
    ".env*",
)
"""Left out unless included again with `!`: histories, what builds make again, secrets."""


class Rule(msgspec.Struct, frozen=True):
    """One pattern. `base` is the directory it came from, relative, with a trailing `/` or empty."""

    base: str
    regex: re.Pattern[str]
    directories_only: bool
    keeps: bool

    def matches(self, path: str, *, is_directory: bool) -> bool:
        """Whether the pattern matches `path`, relative to the top with `/` between parts."""
        if self.directories_only and not is_directory:
            return False
        return path.startswith(self.base) and bool(self.regex.fullmatch(path, len(self.base)))


def read_rules(lines: Iterable[str], *, base: str = "") -> tuple[Rule, ...]:
    """Returns the rules of an ignore file's lines, in order; some lines have no pattern."""
    rules = (_read_rule(line, base) for line in lines)
    return tuple(rule for rule in rules if rule is not None)


def is_ignored(path: str, rules: Iterable[Rule], *, is_directory: bool) -> bool:
    """Whether `path` is left out: the last rule that matches decides."""
    if path == ".git" or path.endswith("/.git"):
        return True
    left_out = False
    for rule in rules:
        if rule.keeps == left_out and rule.matches(path, is_directory=is_directory):
            left_out = not rule.keeps
    return left_out


def _read_rule(line: str, base: str) -> Rule | None:
    pattern = _trimmed(line)
    if not pattern or pattern.startswith("#"):
        return None
    keeps = pattern.startswith("!")
    pattern = pattern[1:] if keeps else pattern
    directories_only = pattern.endswith("/")
    pattern = pattern.rstrip("/")
    anchored = "/" in pattern
    pattern = pattern.lstrip("/")
    if not pattern:
        return None
    try:
        regex = re.compile(("" if anchored else "(?:.*/)?") + _translate(pattern), re.DOTALL)
    except KeyError:  # an unknown character class
        return None
    return Rule(base=base, regex=regex, directories_only=directories_only, keeps=keeps)


def _trimmed(line: str) -> str:
    """Removes the line's end and trailing spaces; a space after a backslash stays."""
    text = line.rstrip("\r\n")
    pattern = text.rstrip(" ")
    backslashes = len(pattern) - len(pattern.rstrip("\\"))
    return pattern + " " if backslashes % 2 and pattern != text else pattern


_TOKENS = re.compile(
    r"(?P<leading>(?:(?<=^)|(?<=/))\*\*/)"  # any directories, or none
    r"|(?P<trailing>(?<=/)\*\*$)"  # everything below
    r"|(?P<stars>\*+)"
    r"|(?P<one>\?)"
    r"|\[(?P<not>[!^]?)(?P<set>\]?(?:\[:\w*:\]|\\.|[^\]\\])*)\]"
    r"|\\(?P<escaped>.)"
    r"|(?P<plain>.)",
    re.DOTALL,
)
_MEMBERS = re.compile(
    r"\[:(?P<class>\w*):\]|\\?(?P<low>(?<=\\).|[^\\])-\\?(?P<high>(?<=\\).|[^\\])"
    r"|\\?(?P<one>.)",
    re.DOTALL,
)
_CLASSES = {
    "alnum": "0-9A-Za-z",
    "alpha": "A-Za-z",
    "blank": r" \t",
    "cntrl": r"\x00-\x1f\x7f",
    "digit": "0-9",
    "graph": "!-~",
    "lower": "a-z",
    "print": " -~",
    "punct": r"!-/:-@\[-`{-~",
    "space": r"\s",
    "upper": "A-Z",
    "xdigit": "0-9A-Fa-f",
}


def _translate(pattern: str) -> str:
    return "".join(_translate_token(token) for token in _TOKENS.finditer(pattern))


def _translate_token(token: re.Match[str]) -> str:
    if token["leading"]:
        return "(?:.*/)?"
    if token["trailing"]:
        return ".+"
    if token["stars"]:
        return "[^/]*"
    if token["one"]:
        return "[^/]"
    if token["set"] is not None:
        members = "".join(_translate_member(each) for each in _MEMBERS.finditer(token["set"]))
        if token["not"]:
            return f"[^/{members}]"
        return f"(?!/)[{members}]" if members else "(?!)"
    return re.escape(token["escaped"] or token["plain"])


def _translate_member(member: re.Match[str]) -> str:
    """Translates a part of a set. Raises KeyError for an unknown class."""
    if member["class"] is not None:
        return _CLASSES[member["class"]]
    if member["one"] is not None:
        return re.escape(member["one"])
    low, high = member["low"], member["high"]
    return f"{re.escape(low)}-{re.escape(high)}" if low <= high else ""
