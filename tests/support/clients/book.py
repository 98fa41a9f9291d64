"""Documents as their readers have them: the shell lines of their pages, in order."""

import re
from dataclasses import dataclass
from pathlib import Path

DOCUMENTS = Path(__file__).parents[3] / "docs" / "run"
USERS = DOCUMENTS.parent / "use"
_BLOCK = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class Line:
    """A line to type, without the remark behind it."""

    page: str
    section: str
    text: str


def pages(documents: Path = DOCUMENTS) -> list[str]:
    """The pages, in the order of the documents' table."""
    table = (documents / "README.md").read_text()
    return re.findall(r"^\| \[[^\]]+\]\(([\w-]+)\.md\)", table, re.MULTILINE)


def lines(*named: str, documents: Path = DOCUMENTS) -> list[Line]:
    """Every line in the blocks of shell of all pages in the table, or of those that are named."""
    return [
        Line(page, title, line)
        for page in named or pages(documents)
        for title, text in _sections((documents / f"{page}.md").read_text())
        for block in _blocks(text, "sh")
        for line in _lines(block)
    ]


def shown(page: str, section: str) -> list[str]:
    """What a section says that a command prints: its block without a language."""
    text = dict(_sections((DOCUMENTS / f"{page}.md").read_text()))[section]
    (block,) = _blocks(text, "")
    return block.splitlines()


def _sections(text: str) -> list[tuple[str, str]]:
    """The titles of a page's sections of any level, and what stands below each."""
    titles = re.split(r"^#+ ([A-Z].+)$", text, flags=re.MULTILINE)[1:]  # else remarks in files
    return list(zip(titles[::2], titles[1::2], strict=True))


def _blocks(text: str, language: str) -> list[str]:
    return [body for _, told, body in _BLOCK.findall(text) if told == language]


def _lines(block: str) -> list[str]:
    typed = (line.split("  # ")[0].strip() for line in block.replace("\\\n", " ").splitlines())
    return [line for line in typed if line]
