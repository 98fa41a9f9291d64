"""Python apps: FastAPI and its like by uvicorn, Flask and Django by gunicorn, plain scripts."""

import re
from shlex import quote
from typing import NamedTuple

from moorage.planning.explicit import Asked
from moorage.planning.folder import Folder
from moorage.planning.plan import Stack
from moorage.planning.python_app import App, find_app
from moorage.planning.recipe import Recipe
from moorage.planning.requirements import LOOKED_FOR as REQUIREMENTS_LOOKED_FOR
from moorage.planning.requirements import Requirements, requirements

SCRIPTS = tuple(f"{name}.py" for name in ("main", "app", "server", "start", "bot", "hello", "run"))
LOOKED_FOR = (
    *REQUIREMENTS_LOOKED_FOR,
    "a FastAPI, Starlette, Litestar, Quart or Flask app object in a .py file; manage.py",
    ", ".join(SCRIPTS) + ", or the only .py file",
)

SYSTEM_PYTHON = "/usr/bin/python3"
_BIN = ".venv/bin/"
_VENV = f"uv venv -q --clear --python {SYSTEM_PYTHON} .venv"
# Compiled once while installing: the app's files are read-only when it runs, so that otherwise
# every start would compile them again.
_INSTALL = "uv pip install -q --compile-bytecode"
_SERVER_COMMAND = re.compile(r"(?:^|[\s/])(uvicorn|gunicorn|hypercorn|streamlit)(?=\s|\Z)")
_WORDS = ("python", "uvicorn", "gunicorn", "hypercorn", "streamlit", "flask", ".py")
_STREAMLIT = re.compile(rb"^[ \t]*(?:import|from)[ \t]+streamlit\b", re.MULTILINE)
_UNBUFFERED = (("PYTHONUNBUFFERED", "1"),)  # so that what an app prints is in its log at once


class _Start(NamedTuple):
    command: str  # names programs of the virtual environment without their directory
    needs: tuple[str, ...]  # packages it can't do without
    because: str


def detect(folder: Folder, asked: Asked) -> Recipe | None:
    """Requirements, an app object or a script; None when there is none of them.

    Raises UploadInvalid for requirements that can't be read.
    """
    needed = requirements(folder)
    start = _asked_start(asked) or _find_start(folder, needed, asked)
    if start is None and needed.file is None and not needed.missing:
        return None
    if asked.run is not None and needed.file is None and not _is_ours(folder, asked):
        return None
    because: list[str] = []
    install = _install(needed, start, asked, because)
    missing = needed.missing if asked.install is None else ""
    if start is None:
        missing = missing or f"{needed.file} is there, but no app object and no script to run"
    else:
        because.append(start.because)
    return Recipe(
        stack=Stack.PYTHON,
        install=install,
        build=asked.build,
        start=None if start is None or missing else _command(start, asked, install),
        because=tuple(because),
        run_env=_UNBUFFERED,
        missing=missing,
    )


def mentions_python(command: str) -> bool:
    """Whether a command looks like Python's."""
    return any(word in command for word in _WORDS)


def _is_ours(folder: Folder, asked: Asked) -> bool:
    """Whether a given start command is for Python files, where no requirements say so."""
    if asked.stack is not Stack.PYTHON and not mentions_python(asked.run or ""):
        return False
    return any(name.endswith(".py") for name in folder.names())


def _asked_start(asked: Asked) -> _Start | None:
    """The command given; the server it names is installed with the requirements."""
    if asked.run is None:
        return None
    return _Start(asked.run, tuple(_SERVER_COMMAND.findall(asked.run)[:1]), asked.run_because)


def _find_start(folder: Folder, needed: Requirements, asked: Asked) -> _Start | None:
    hint = asked.framework.name if asked.framework else ""
    django = _django(folder)
    if django is not None:
        return django
    if "streamlit" in needed.names or hint == "streamlit":
        streamlit = _streamlit(folder)
        if streamlit is not None:
            return streamlit
    app = find_app(folder, needed.names, hint)
    return _served(app) if app is not None else _script(folder)


def _django(folder: Folder) -> _Start | None:
    if not folder.has("manage.py"):
        return None
    module = next((name for name in folder.names() if name.endswith("/wsgi.py")), None)
    if module is None:
        return None
    target = quote(f"{module[:-3].replace('/', '.')}:application")
    return _Start(
        f"gunicorn --bind 0.0.0.0:$PORT --threads 4 {target}",
        ("django", "gunicorn"),
        f"manage.py and {module} are Django's: run by gunicorn; migrations are not run, "
        "set settings.buildCommand or settings.runCommand for them",
    )


def _streamlit(folder: Folder) -> _Start | None:
    names = ("streamlit_app.py", "Home.py", *SCRIPTS)
    for name in names:
        if folder.has(name) and _STREAMLIT.search(folder.data(name, limit=65_536)):
            return _Start(
                f"streamlit run {name} --server.address 0.0.0.0 --server.port $PORT "
                "--server.headless true --browser.gatherUsageStats false",
                ("streamlit",),
                f"{name} is a Streamlit app",
            )
    return None


def _served(app: App) -> _Start:
    """The server for an app object. gunicorn gets threads: one slow client must not block all."""
    call = f"{app.attribute}()" if app.factory else app.attribute
    because = f"{app.file} has a {app.package} app, {call}: run by {app.server}"
    if app.server == "uvicorn":
        options = " --factory" if app.factory else ""
        options += f" --app-dir {quote(app.root)}" if app.root else ""
        command = (
            f"uvicorn --host 0.0.0.0 --port $PORT{options} {quote(f'{app.module}:{app.attribute}')}"
        )
    else:
        options = f" --pythonpath {quote(app.root)}" if app.root else ""
        command = (
            f"gunicorn --bind 0.0.0.0:$PORT --threads 4{options} {quote(f'{app.module}:{call}')}"
        )
    return _Start(command, (app.package, app.server), because)


def _script(folder: Folder) -> _Start | None:
    name = folder.first(*SCRIPTS)
    if name is not None:
        return _Start(f"python {name}", (), f"{name} is there")
    top = [file for file in folder.names() if file.endswith(".py") and "/" not in file]
    if len(top) != 1:
        return None
    return _Start(f"python {quote(f'./{top[0]}')}", (), f"{top[0]} is the only Python file")


def _install(
    needed: Requirements, start: _Start | None, asked: Asked, because: list[str]
) -> str | None:
    """A virtual environment with what is required, or None when nothing is."""
    if asked.install == "":
        return ""
    if asked.install is not None:
        return f"{_VENV} || exit 1\n{asked.install}"
    added = [package for package in (start.needs if start else ()) if package not in needed.names]
    if needed.file is None and not added:
        because.append("no requirements: nothing to install")
        return _VENV if asked.run is not None else None
    if needed.file is not None:
        because.append(f"{needed.file} is installed with uv")
    if added:
        names = " and ".join(added)
        because.append(
            f"{names} {'is' if len(added) == 1 else 'are'} needed and not among the requirements: "
            "installed too, in the newest version"
        )
    files = f" -r {needed.file}" if needed.file else ""
    return f"{_VENV} && {_INSTALL}{files}{''.join(f' {name}' for name in added)}"


def _command(start: _Start, asked: Asked, install: str | None) -> str:
    if asked.run is not None:
        return start.command
    if install:
        return _BIN + start.command
    program, _, arguments = start.command.partition(" ")
    return f"{SYSTEM_PYTHON if program == 'python' else program} {arguments}"
