"""The plan of a Python app: by uvicorn, gunicorn, Streamlit or Gradio, or a plain script."""

import re
from collections.abc import Mapping
from shlex import quote
from typing import NamedTuple

from moorage.planning.explicit import Asked
from moorage.planning.folder import Folder
from moorage.planning.plan import Stack
from moorage.planning.python.objects import App, find_app
from moorage.planning.python.projects import Install, install_also, install_with
from moorage.planning.python.requirements import LOOKED_FOR as REQUIREMENTS_LOOKED_FOR
from moorage.planning.python.requirements import Requirements, project_document, requirements
from moorage.planning.python.versions import Found, python_for
from moorage.planning.recipe import Recipe
from moorage.planning.toolbox import Toolbox

SCRIPTS = tuple(f"{name}.py" for name in ("main", "app", "server", "start", "bot", "hello", "run"))
LOOKED_FOR = (
    *REQUIREMENTS_LOOKED_FOR,
    "a FastAPI, Starlette, Litestar, Quart or Flask app object in a .py file; manage.py",
    ", ".join(SCRIPTS) + ", or the only .py file",
)

_BIN = ".venv/bin/"
_SERVER_COMMAND = re.compile(r"(?:^|[\s/])(uvicorn|gunicorn|hypercorn|streamlit)(?=\s|\Z)")
_WORDS = ("python", "uvicorn", "gunicorn", "hypercorn", "streamlit", "flask", ".py")
_STREAMLIT = re.compile(rb"^[ \t]*(?:import|from)[ \t]+streamlit\b", re.MULTILINE)
_GRADIO = re.compile(rb"^[ \t]*(?:import|from)[ \t]+gradio\b", re.MULTILINE)
_STATIC_ROOT = re.compile(rb"^[ \t]*STATIC_ROOT[ \t]*=", re.MULTILINE)
_UNBUFFERED = ("PYTHONUNBUFFERED", "1")  # so that what an app prints is in its log at once


class _Start(NamedTuple):
    command: str  # names programs of the virtual environment without their directory
    needs: tuple[str, ...]  # packages it can't do without
    because: str
    build: str | None = None  # what is done once, before
    environment: tuple[tuple[str, str], ...] = ()


class _Project(NamedTuple):
    """A folder of Python files, while its plan is being made."""

    folder: Folder
    asked: Asked
    document: Mapping[str, object]
    needed: Requirements
    python: Found


def detect(folder: Folder, asked: Asked, toolbox: Toolbox) -> Recipe | None:
    """Requirements, an app object or a script; None when there is none of them.

    Raises UploadInvalid for requirements that can't be read, RuntimeUnsupported for a Python that
    can't be had.
    """
    document = project_document(folder)
    needed = requirements(folder, document)
    start = _asked_start(asked) or _find_start(folder, needed, asked)
    if start is None and needed.file is None:
        return None
    if asked.run is not None and needed.file is None and not _is_ours(folder, asked):
        return None
    python = python_for(folder, asked, toolbox, document=document)
    return _recipe(_Project(folder, asked, document, needed, python), start)


def _recipe(project: _Project, start: _Start | None) -> Recipe:
    asked, needed, python = project.asked, project.needed, project.python
    because: list[str] = [python.because] if python.because else []
    install = install_with(needed, project.document)
    command = _install(project, install, start, because)
    missing = ""
    if start is None:
        missing = f"{needed.file} is there, but no app object and no script to run"
    else:
        because.append(start.because)
    build = asked.build
    if build is None and start is not None and start.build is not None:
        build = _BIN + start.build
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
        toolchains=tuple(python.tool.toolchains.items()),
        install_inputs=_inputs(project, install) if is_decided else (),
    )


def _inputs(project: _Project, install: Install) -> tuple[str, ...]:
    return tuple(project.folder.path(file) for file in sorted(install.inputs))


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
    if "gradio" in needed.names or hint == "gradio":
        gradio = _gradio(folder)
        if gradio is not None:
            return gradio
    app = find_app(folder, needed.names, hint)
    return _served(app) if app is not None else _script(folder)


def _django(folder: Folder) -> _Start | None:
    """gunicorn for its WSGI application; migrations run before each start, as a deploy may bring
    new ones.
    """
    if not folder.has("manage.py"):
        return None
    module = next((name for name in folder.names() if name.endswith("/wsgi.py")), None)
    if module is None:
        return None
    target = quote(f"{module[:-3].replace('/', '.')}:application")
    collects = _collects_static_files(folder, module)
    because = f"manage.py and {module} are Django's: migrated, then run by gunicorn"
    return _Start(
        f"python manage.py migrate --noinput\n"
        f"exec {_BIN}gunicorn --bind 0.0.0.0:$PORT --threads 4 {target}",
        ("django", "gunicorn"),
        f"{because}; static files are collected, as STATIC_ROOT is set" if collects else because,
        build=(
            "python manage.py collectstatic --noinput || echo "
            "'Static files were not collected: set buildVars as collectstatic needs them.'"
            if collects
            else None
        ),
    )


def _collects_static_files(folder: Folder, wsgi: str) -> bool:
    package = wsgi.rpartition("/")[0]
    names = [f"{package}/settings.py", f"{package}/settings/base.py"]
    names += [f"{package}/settings/production.py", "settings.py", "config/settings/base.py"]
    name = folder.first(*names)
    return name is not None and _STATIC_ROOT.search(folder.data(name, limit=65_536)) is not None


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


def _gradio(folder: Folder) -> _Start | None:
    for name in SCRIPTS:
        if folder.has(name) and _GRADIO.search(folder.data(name, limit=65_536)):
            return _Start(
                f"python {name}",
                ("gradio",),
                f"{name} is a Gradio app",
                environment=(
                    ("GRADIO_SERVER_NAME", "0.0.0.0"),  # noqa: S104 (in the app's own network)
                    ("GRADIO_ANALYTICS_ENABLED", "False"),
                ),
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
    project: _Project, install: Install, start: _Start | None, because: list[str]
) -> str | None:
    """A virtual environment with what is required, or None when nothing is."""
    asked, needed = project.asked, project.needed
    # Its place is said, as uv takes that of a project around this folder otherwise.
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


def _command(start: _Start, project: _Project, install: str | None) -> str:
    if project.asked.run is not None:
        return start.command
    port = "GRADIO_SERVER_PORT=$PORT " if start.environment else ""
    if install:
        return f"{port}{_BIN}{start.command}"
    program, _, arguments = start.command.partition(" ")
    return f"{project.python.command if program == 'python' else program} {arguments}"
