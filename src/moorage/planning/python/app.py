"""Plans a Python app, run by uvicorn, gunicorn, Streamlit or Gradio, or as a script."""

import re
from collections.abc import Mapping
from typing import NamedTuple

from moorage.planning.explicit import Asked
from moorage.planning.plan import Stack
from moorage.planning.python.projects import Install, install_also, install_with
from moorage.planning.python.requirements import LOOKED_FOR as REQUIREMENTS_LOOKED_FOR
from moorage.planning.python.requirements import Requirements, project_document, requirements
from moorage.planning.python.starts import SCRIPTS, Start, find_start
from moorage.planning.python.versions import Found, python_for
from moorage.planning.reading.folder import Folder
from moorage.planning.recipe import Recipe
from moorage.planning.toolbox import Toolbox

LOOKED_FOR = (
    *REQUIREMENTS_LOOKED_FOR,
    "a FastAPI, Starlette, Litestar, Quart or Flask app object in a .py file; manage.py",
    ", ".join(SCRIPTS) + ", or the only .py file; a command of pyproject.toml's [project.scripts]",
)

_SERVER_COMMAND = re.compile(r"(?:^|[\s/])(uvicorn|gunicorn|hypercorn|streamlit)(?=\s|\Z)")
_WORDS = ("python", "uvicorn", "gunicorn", "hypercorn", "streamlit", "flask", ".py")
_UNBUFFERED = ("PYTHONUNBUFFERED", "1")  # so that output is in the log at once


class _Project(NamedTuple):
    """A folder of Python files that is being planned."""

    folder: Folder
    asked: Asked
    document: Mapping[str, object]
    needed: Requirements
    python: Found


def detect(folder: Folder, asked: Asked, toolbox: Toolbox) -> Recipe | None:
    """Requirements, an app object or a script; None when there is none of them.

    Raises UploadInvalid for requirements that can't be read, RuntimeUnsupported for a Python that
    is not available.
    """
    document = project_document(folder)
    needed = requirements(folder, document)
    start = find_start(folder, needed, asked, document)
    if asked.run is not None:
        start = _asked_start(asked, start, needed)
    if start is None and needed.file is None:
        return None
    if asked.run is not None and needed.file is None and not _is_ours(folder, asked):
        return None
    python = python_for(folder, asked, toolbox, document=document)
    return _recipe(_Project(folder, asked, document, needed, python), start)


def _recipe(project: _Project, start: Start | None) -> Recipe:
    asked, needed, python = project.asked, project.needed, project.python
    because: list[str] = [python.because] if python.because else []
    install = install_with(needed, project.document, python=python.command)
    command = _install(project, install, start, because)
    missing = ""
    if start is None:
        missing = f"{needed.file} is there, but no app object and no script to run"
    else:
        because.append(start.because)
    build = asked.build
    if build is None and start is not None and start.build is not None:
        build = f"{start.enter}{start.bin}{start.build}"
    is_decided = command and asked.install is None
    return Recipe(
        stack=Stack.PYTHON,
        install=command,
        build=build,
        start=None if start is None else _command(start, project, command),
        because=tuple(because),
        build_env=(("UV_PYTHON_DOWNLOADS", "never"),) if command else (),
        run_env=(_UNBUFFERED, *(start.environment if start else ())),
        missing=missing,
        tools=(python.tool,),
        install_inputs=_inputs(project, install) if is_decided else (),
    )


def _inputs(project: _Project, install: Install) -> tuple[str, ...]:
    """Returns the files that decide what the install makes; none with an uploaded .venv."""
    if project.folder.has_directory(".venv"):
        return ()
    return tuple(project.folder.path(file) for file in sorted(install.inputs))


def mentions_python(command: str) -> bool:
    """Whether a command looks like one for Python."""
    return any(word in command for word in _WORDS)


def _is_ours(folder: Folder, asked: Asked) -> bool:
    """Whether a given start command is for Python files, if there are no requirements."""
    if asked.stack is not Stack.PYTHON and not mentions_python(asked.run or ""):
        return False
    return any(name.endswith(".py") for name in folder.names())


def _asked_start(asked: Asked, found: Start | None, needed: Requirements) -> Start:
    """Returns the given command; the server it names is installed with the requirements.

    The build of what was found stays, such as Django's static files.
    """
    run = asked.run or ""
    start = Start(run, tuple(_SERVER_COMMAND.findall(run)[:1]), asked.run_because)
    if found is None or found.is_files or found.build is None or found.needs[0] not in needed.names:
        return start
    return start._replace(build=found.build, directory=found.directory)


def _install(
    project: _Project, install: Install, start: Start | None, because: list[str]
) -> str | None:
    """Returns the command that makes the virtual environment, or None if nothing is needed."""
    asked, needed = project.asked, project.needed
    # The path is given, because uv would otherwise use that of a project around this folder.
    venv = f"uv venv -q --clear --python {project.python.command} .venv"
    if asked.install == "":
        return ""
    if asked.install is not None:
        return f"{venv} || exit 1\n{asked.install}"
    added = [package for package in (start.needs if start else ()) if package not in needed.names]
    if not install.command and not added:
        because.append("no requirements: nothing to install")
        return venv if asked.run is not None else None
    if install.because:
        because.append(install.because)
    if added:
        names = " and ".join(added)
        because.append(
            f"{names} {'is' if len(added) == 1 else 'are'} needed and not among the requirements: "
            "installed too, in the newest version"
        )
    if not added:
        return f"{venv} && {install.command}"
    if needed.file is not None and install.command.endswith(f" -r {needed.file}"):
        return f"{venv} && {install.command} {' '.join(added)}"
    return " && ".join(step for step in (venv, install.command, install_also(added)) if step)


def _command(start: Start, project: _Project, install: str | None) -> str:
    if project.asked.run is not None or start.is_files:
        return start.command
    if install:
        return f"{start.assigned}{start.enter}{start.bin}{start.command}"
    program, _, arguments = start.command.partition(" ")
    own = project.python.command if program == "python" else program
    return f"{start.enter}{own} {arguments}"
