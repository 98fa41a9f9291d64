"""Finds which language a given start command runs, and whether the machine has it."""

import posixpath
import re

from moorage.errors import RuntimeUnsupported
from moorage.planning.kinds import COMPILED, LANGUAGE_OF
from moorage.planning.node.package_json import package_json
from moorage.planning.plan import quoted
from moorage.planning.reading.folder import Folder
from moorage.planning.toolbox import Tool, Toolbox

_INSTALLED = ("node_modules/", ".venv/", "venv/", "vendor/", ".heroku/", "target/universal/")
_SEPARATOR = re.compile(r"&&|\|\||[;|\n(){}]")
_BEFORE = re.compile(r"(?:[A-Za-z_]\w*=[^\s'\"]*[ \t]+|(?:exec|env|nohup|time)[ \t]+)*")
_PROGRAM = re.compile(r"[\w./+-]{1,200}(?=[ \t]|\Z)")


def interpreters(
    command: str, folder: Folder, toolbox: Toolbox, *, source: str
) -> tuple[Tool, ...]:
    """Returns the languages that a given start command runs, of those besides Node and Python.

    Raises RuntimeUnsupported, naming the source, for one that the machine lacks.
    """
    found: dict[str, Tool] = {}
    for part in _SEPARATOR.split(command):
        match = _PROGRAM.match(_BEFORE.sub("", part.strip(), count=1))
        program = match[0].rpartition("/")[2] if match else ""
        language = LANGUAGE_OF.get(program)
        if language is None or _is_apps_own(folder, program, language):
            continue
        tool = next(iter(reversed(toolbox.tools(language))), None)
        if tool is None:
            raise RuntimeUnsupported(
                source,
                f"{quoted(command)!r} runs {program}, but this gateway has no {language}. "
                f"{toolbox.otherwise}",
            )
        found[language] = (toolbox.own(language) or [tool])[0]
    return tuple(found.values())


def unmade(command: str, folder: Folder) -> tuple[str, ...]:
    """Returns the programs, by their paths, that a given start runs and the upload does not have.

    Those that an install of Node's or Python's packages makes are left out.
    """
    found: list[str] = []
    for word in words(command):
        path = posixpath.normpath(word)
        if word == "cd":  # what follows is elsewhere
            break
        is_own = "/" in word and not path.startswith(("/", "..", *_INSTALLED))
        if is_own and path.rpartition("/")[2] not in LANGUAGE_OF and not folder.has(path):
            found.append(path)
    return tuple(dict.fromkeys(found))


def words(command: str) -> list[str]:
    """Returns the programs of a given start, as they are written there."""
    parts = (_BEFORE.sub("", part.strip(), count=1) for part in _SEPARATOR.split(command))
    return [match[0] for part in parts if (match := _PROGRAM.match(part)) is not None]


def refuse_unmade(command: str, folder: Folder, toolbox: Toolbox, *, is_alone: bool) -> None:
    """Raises RuntimeUnsupported for a Procfile's program that nothing here can make.

    `is_alone` says that no stack here knows the files: the program is a compiled language's, too.
    """
    files = set(folder.files())
    written = next(
        ((file, name) for name, ends in COMPILED for file in sorted(files) if file.endswith(ends)),
        None,
    )
    missing = unmade(command, folder)
    if not missing and is_alone and written is not None and not toolbox.has(written[1]):
        missing = (*words(command)[:1],)
    if not missing:
        return
    if written is None:
        raise RuntimeUnsupported(
            folder.path("Procfile"),
            f"it starts {missing[0]}, which is not in the upload, and which no step here makes: "
            "add it, or set settings.buildCommand to what makes it",
        )
    file, language = written
    if not toolbox.has(language):
        raise RuntimeUnsupported(
            folder.path("Procfile"),
            f"it starts {missing[0]}, which is built of {language} ({file}), and this gateway has "
            f"no {language}: a gateway with it, or one with Docker and a Dockerfile, takes the app",
        )


def _is_apps_own(folder: Folder, program: str, language: str) -> bool:
    """Whether a package of npm brings the program, as some do."""
    manifest = package_json(folder) if language in ("bun", "deno") else None
    return manifest is not None and manifest.depends_on(program.removesuffix("x"))
