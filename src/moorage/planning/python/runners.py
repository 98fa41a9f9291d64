"""Scripts that a program of their framework serves: Streamlit, Chainlit, Shiny, Panel, …"""

import re
from shlex import quote
from typing import NamedTuple

from moorage.planning.reading.folder import Folder

READ = 65_536  # bytes of a source
_OTHERS_LIMIT = 50  # files without a likely name that are looked into


class Runner(NamedTuple):
    """A framework, how to recognize its scripts, and what serves one."""

    package: str
    name: str
    page: re.Pattern[bytes]  # found only in the script that is the app
    likely: tuple[str, ...]
    program: str  # before the script's name …
    options: str  # … and after it
    is_sure: bool = False  # a likely name is enough, without the pattern


RUNNERS = (
    Runner(
        "streamlit",
        "Streamlit",
        re.compile(rb"\.(?:set_page_config|title|navigation)[ \t]*\("),
        ("streamlit_app.py", "Home.py"),
        "streamlit run",
        "--server.address 0.0.0.0 --server.port $PORT "
        "--server.headless true --browser.gatherUsageStats false",
        is_sure=True,
    ),
    Runner(
        "chainlit",
        "Chainlit",
        re.compile(rb"^@\w+\.(?:on_message|on_chat_start)\b", re.MULTILINE),
        (),
        "chainlit run",
        "--host 0.0.0.0 --port $PORT --headless",
    ),
    Runner(
        "shiny",
        "Shiny",
        re.compile(rb"^app\b.*=[ \t]*(?:shiny\.)?App[ \t]*\(|\bshiny\.express\b", re.MULTILINE),
        (),
        "shiny run --host 0.0.0.0 --port $PORT",
        "",
    ),
    Runner(
        "panel",
        "Panel",
        re.compile(rb"\.servable[ \t]*\("),
        (),
        "panel serve",
        "--address 0.0.0.0 --port $PORT --allow-websocket-origin '*'",
    ),
    Runner(
        "marimo",
        "marimo",
        re.compile(rb"^app\b.*=[ \t]*marimo\.App[ \t]*\(", re.MULTILINE),
        (),
        "marimo run --host 0.0.0.0 --port $PORT --headless",
        "",
    ),
    Runner(
        "solara",
        "Solara",
        re.compile(rb"^@(?:solara\.)?component\b|^Page\b.*=", re.MULTILINE),
        (),
        "solara run --host 0.0.0.0 --port $PORT --production",
        "",
    ),
)


def runner_command(folder: Folder, runner: Runner, scripts: tuple[str, ...]) -> tuple[str, str]:
    """Returns the script that is the app, and the command that serves it; "" and "" if none.

    `scripts` are names that any app's script is likely to have.
    """
    likely = (*runner.likely, *scripts)
    imports = rb"^[ \t]*(?:import|from)[ \t]+%b\b" % runner.package.encode()
    names = importing(folder, re.compile(imports, re.MULTILINE), likely)
    pages = [name for name in names if runner.page.search(folder.data(name, limit=READ))]
    if runner.is_sure and names and (names[0] in likely or not pages):
        pages = names
    if not pages:
        return "", ""
    return pages[0], " ".join((runner.program, quote(pages[0]), runner.options)).strip()


def imported(folder: Folder, packages: tuple[str, ...], scripts: tuple[str, ...]) -> set[str]:
    """Returns the packages that the folder's own Python files import."""
    either = "|".join(packages).encode()
    pattern = re.compile(rb"^[ \t]*(?:import|from)[ \t]+(%b)\b" % either, re.MULTILINE)
    others = [name for name in folder.files() if name.endswith(".py") and name not in scripts]
    return {
        found.decode()
        for name in (*scripts, *others[:_OTHERS_LIMIT])
        if folder.has(name)
        for found in pattern.findall(folder.data(name, limit=READ))
    }


def importing(folder: Folder, pattern: re.Pattern[bytes], likely: tuple[str, ...]) -> list[str]:
    """Returns the folder's own Python files that contain the pattern, likely names first."""
    others = [n for n in folder.files() if n.endswith(".py") and n not in likely]
    return [
        name
        for name in (*likely, *others[:_OTHERS_LIMIT])
        if folder.has(name) and pattern.search(folder.data(name, limit=READ))
    ]
