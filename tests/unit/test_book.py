"""Every command of the documents is one that there is, with options that it takes."""

import re
import shlex

import pytest

from moorage.cli.help import build_app
from moorage.cli.main import find_command, named
from support.clients import book

ENGINES = ("docker", "kubernetes")
COMMANDS = [
    line
    for line in (*book.lines(), *book.lines(*ENGINES), *book.lines(documents=book.USERS))
    if line.text.startswith("moorage ") or " -- moorage " in line.text
]


def test_tables_of_pages_name_each_page() -> None:
    found = {path.stem for path in book.DOCUMENTS.glob("*.md")}
    assert set(book.pages()) == found - {"README", *ENGINES}
    of_users = {path.stem for path in book.USERS.glob("*.md")}
    assert set(book.pages(book.USERS)) == of_users - {"README"}
    assert len(COMMANDS) > 40


@pytest.mark.parametrize(
    "line", COMMANDS, ids=[f"{line.page}-{number}" for number, line in enumerate(COMMANDS)]
)
def test_command_in_the_book_is_taken(line: book.Line) -> None:
    text = re.sub(r"^.* -- (?=moorage )", "", line.text)  # of what is typed in a pod
    words = shlex.split(re.sub(r"\$\([^)]*\)", "x", text))[1:]
    ends = [index for index, word in enumerate(words) if word in ("&&", "|", ">", ";")]
    arguments = words[: ends[0]] if ends else words
    assert find_command(named(arguments)) is not None, line
    build_app().parse_args(arguments, exit_on_error=False, print_error=False)
