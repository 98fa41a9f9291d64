"""Every command of the operator's book is one that there is, with options that it takes."""

import re
import shlex
from pathlib import Path

import pytest

from moorage.cli.commands import find_command
from moorage.cli.help import build_app

REPOSITORY = Path(__file__).parents[2]
PAGES = sorted((REPOSITORY / "docs/operate").glob("*.md"))
PROGRAM = re.compile(r"(?:^|[\s/])moorage (?=[a-z])")


def commands(text: str) -> list[str]:
    """The lines of a page's shell blocks that run moorage, with what they go on with."""
    blocks = re.findall(r"^```(?:sh|bash)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    return [line for line in lines if PROGRAM.search(line)]


BOOK = [(path.stem, line) for path in PAGES for line in commands(path.read_text())]


def test_book_has_commands() -> None:
    assert len(BOOK) > 40
    assert len(PAGES) > 12


@pytest.mark.parametrize(
    ("page", "line"), BOOK, ids=[f"{page}-{number}" for number, (page, _) in enumerate(BOOK)]
)
def test_command_in_the_book_is_taken(page: str, line: str) -> None:
    words = shlex.split(re.sub(r"\$\([^)]*\)", "x", PROGRAM.split(line)[1]), comments=True)
    ends = [index for index, word in enumerate(words) if word in ("&&", "|", ">", ";")]
    arguments = words[: ends[0]] if ends else words
    assert find_command(arguments[0]) is not None, page
    build_app().parse_args(arguments, exit_on_error=False, print_error=False)
