"""Plans a Python app, run by uvicorn, gunicorn, Streamlit or Gradio, or as a script."""

import re
from collections.abc import Iterator, Mapping
from shlex import quote
from typing import NamedTuple

from moorage.errors import PlanNotFound, UploadInvalid
from moorage.planning.explicit import Asked, find_tool
from moorage.planning.plan import Recipe, Risk, RiskCode, Stack, Stops, no_port, risk_of
from moorage.planning.python.imports import (
    Import,
    Imports,
    django_entries,
)
from moorage.planning.python.mcp import over_http
from moorage.planning.python.objects import find_app
from moorage.planning.python.requirements import (
    JOBS,
    KNOWN_PACKAGES,
    Requirements,
    bare,
    normal,
    of_member,
    of_script,
    project_document,
    requirements,
    with_brought,
)
from moorage.planning.python.requirements import LOOKED_FOR as REQUIREMENTS_LOOKED_FOR
from moorage.planning.python.starts import RUNNERS, SCRIPTS, Start, docs_site, find_start
from moorage.planning.python.versions import (
    Found,
    companions,
    locked_names,
    python_for,
    wheels,
)
from moorage.planning.reading.folder import Folder
from moorage.planning.reading.formats import in_place
from moorage.planning.risks import of_packages
from moorage.planning.toolbox import Tool, Toolbox

# Compiled once at the install, so that starts are faster.
_PIP = "uv pip install -q --compile-bytecode"
_PINS = '"$TMPDIR/pins.txt"'
_TOOLS = {
    "poetry.lock": "Poetry",
    "pdm.lock": "PDM",
    "Pipfile.lock": "Pipenv",
    "Pipfile": "Pipenv",
    "pyproject.toml": "Poetry",
}


class Install(NamedTuple):
    """The command that fills the virtual environment, "" for none, and why."""

    command: str
    because: str
    inputs: tuple[str, ...]  # files that alone decide what it installs; empty: all do


def install_with(needed: Requirements, document: Mapping[str, object], *, python: str) -> Install:
    """Returns how to install the app's dependencies, from the file that lists them.

    `python` is the interpreter's command.
    """
    file, inputs = needed.file, () if needed.is_local else needed.files
    if file is None:
        return Install("", "", ())
    if needed.member:
        return _uv(document, python, member=needed.member, is_locked=file == "uv.lock")
    if needed.listed:
        packages = " ".join(quote(each) for each in needed.listed)
        return Install(
            f"{_PIP} {packages}", f"{file} lists what it needs: installed with uv", inputs
        )
    if file == "uv.lock":
        return _uv(document, python, member="", is_locked=True)
    if file.endswith(".lock"):
        because = f"{file} fixes the versions: {_TOOLS[file]}'s, installed with uv"
        return Install(f"lockpins {file} > {_PINS} && {_PIP} --no-deps -r {_PINS}", because, inputs)
    if file == "Pipfile" or needed.is_poetrys:
        because = (
            f"{file} is {_TOOLS[file]}'s and has no lock file: "
            "uv installs the newest versions it allows"
        )
        return Install(f"lockpins {file} > {_PINS} && {_PIP} -r {_PINS}", because, inputs)
    return Install(f"{_PIP} -r {file}", f"{file} is installed with uv", inputs)


def install_also(packages: list[str]) -> str:
    """Returns a command that installs packages which the app needs and doesn't list."""
    return " ".join((_PIP, *map(quote, packages)))


def _uv(document: Mapping[str, object], python: str, *, member: str, is_locked: bool) -> Install:
    """Returns `uv sync`, which also installs the project itself if it has a build system.

    Python is named, as uv would refuse another one than .python-version's; so is the environment,
    as that of a workspace's `member` would be at the workspace's root.
    """
    command = f"uv sync -q{' --locked' if is_locked else ''} --no-dev --compile-bytecode"
    command += f" --python {python}"
    because = "uv.lock fixes the versions: uv sync"
    if member:
        command = f'UV_PROJECT_ENVIRONMENT="$PWD/.venv" {command} --package {quote(member)}'
        because = f"{member} is a member of a workspace: uv sync"
    is_package = bool(member) or "build-system" in document
    return Install(command, because, () if is_package else ("pyproject.toml", "uv.lock"))


LOOKED_FOR = (
    *REQUIREMENTS_LOOKED_FOR,
    "a FastAPI, Starlette, Litestar, Quart or Flask app object in a .py file; manage.py",
    ", ".join(SCRIPTS) + ", or the only .py file; a command of pyproject.toml's [project.scripts]",
)

_SERVER_COMMAND = re.compile(r"(?:^|[\s/])(uvicorn|gunicorn|hypercorn|streamlit)(?=\s|\Z)")
_WORDS = ("python", "uvicorn", "gunicorn", "hypercorn", "streamlit", "flask", ".py")
_WORKER = re.compile(
    r"(?:exec[ \t]+)?(?:[\w./-]*/)?"
    r"(celery(?=[^&;|\n]*\b(?:worker|beat)\b)|rq[ \t]+worker|dramatiq|arq)\b[^&;|\n]*\Z"
)
_SCRIPT = re.compile(r"(?<![\w./-])(?:\./)?((?:[\w-]+/)*[\w-]+\.py)\b")
_MODULE = re.compile(r"(?<![\w./:-])([A-Za-z_][\w.]*)(?=:[A-Za-z_])|-m[ \t]+([A-Za-z_][\w.]*)")
_DJANGO = re.compile(r"\bmanage\.py\b|\b[aw]sgi\b")
_REFLEX = "rxconfig.py"
_UNBUFFERED = ("PYTHONUNBUFFERED", "1")  # so that output is in the log at once


class _Project(NamedTuple):
    """A folder of Python files that is being planned."""

    folder: Folder
    asked: Asked
    document: Mapping[str, object]
    needed: Requirements
    python: Found
    imports: Imports
    others: tuple[Tool, ...]  # what its build runs besides Python


def detect(folder: Folder, asked: Asked, toolbox: Toolbox) -> Recipe | None:
    """Requirements, an app object or a script; None when there is none of them.

    Raises UploadInvalid for requirements that can't be read and for imports that nothing brings,
    RuntimeUnsupported for a Python that is not available, PlanNotFound for what has no port.
    """
    document = project_document(folder)
    needed = requirements(folder, document)
    start = find_start(folder, needed, asked, document)
    inner = of_member(folder, document, start.file) if start is not None else None
    document, needed = inner or (document, needed)
    if needed.file is None and start is not None and start.file:
        needed = of_script(folder, start.file)
    if start is not None and asked.run is None:
        start = _with_bot(folder, start)
    if asked.run is not None:
        start = _asked_start(folder, asked, start, needed)
    if start is None and needed.file is None and not folder.has(_REFLEX):
        return None
    if asked.run is not None and needed.file is None and not _is_ours(folder, asked):
        return None
    imports = _imports(folder, start)
    if start is not None and asked.run is None and start.file:
        start = over_http(folder, start, imports.reached())
    if asked.run is None and asked.stack is None and _is_tool(folder, needed, start, imports):
        return None
    refusal = _refusal(folder, asked, start, imports)
    docs = docs_site(folder, needed) if refusal and asked.run is None else None
    if docs is not None:
        start, refusal, imports = docs, "", Imports(folder, [], root="")
    if refusal and (start is not None or not folder.has("index.html")):
        raise PlanNotFound(f"{refusal}.")
    pinned = tuple((bare(it), it.removeprefix(bare(it))) for it in (start.needs if start else ()))
    fitting = wheels(folder, (*needed.specifiers, *pinned), modules=imports.standard())
    python = python_for(folder, asked, toolbox, document=document, fitting=fitting)
    programs = start.programs if start is not None else ()
    others = tuple(find_tool(toolbox, name, None, file=file).tool for name, file in programs)
    project = _Project(folder, asked, document, needed, python, imports, others)
    return _recipe(project, start, toolbox)


def _imports(folder: Folder, start: Start | None) -> Imports:
    if start is None:
        scripts = [name for name in folder.files() if name.endswith(".py")]
        return Imports(folder, scripts, root="")
    if start.package:
        entries = django_entries(folder, start.package, start.settings)
        return Imports(folder, entries, root=start.root, django=True)
    entries = [start.file] if start.file and folder.has(start.file) else []
    return Imports(folder, entries, root=start.root)


def _with_bot(folder: Folder, start: Start) -> Start:
    """Returns the script of a bot that runs the app object found beside its work, else `start`."""
    script = folder.first(*SCRIPTS)
    if script is None or not start.needs or script == start.file:
        return start
    imports = Imports(folder, [script], root="")
    if not imports.kind() or not imports.follows(start.file):
        return start
    because = f"{imports.kind()}, which runs {start.file} beside it"
    return Start(f"python {script}", start.needs[:1], because, file=script)


def _is_tool(folder: Folder, needed: Requirements, start: Start | None, imports: Imports) -> bool:
    """Whether a script lies beside a page and serves nothing: the page is the app."""
    if start is None or start.needs or needed.file is not None or not folder.has("index.html"):
        return False
    return imports.is_aside()


def _refusal(folder: Folder, asked: Asked, start: Start | None, imports: Imports) -> str:
    """Returns why this can't run here, however it is started; "" if nothing is known."""
    if folder.has(_REFLEX) and asked.run is None:
        return (
            f"{folder.path(_REFLEX)} is Reflex's, whose server and page need two ports: add a "
            "Dockerfile, and deploy it to a gateway with Docker"
        )
    portless = ""
    if asked.is_worker:
        return ""
    if start is None or not (start.needs or start.is_listening) or asked.run is not None:
        portless = imports.portless(is_given=asked.run is not None or asked.stack is not None)
    worker = _WORKER.match(asked.run or "")
    if worker is not None:
        portless = f"The given command starts a worker ({worker[1]})"
    return no_port(portless) if portless else ""


def _recipe(project: _Project, start: Start | None, toolbox: Toolbox) -> Recipe:
    asked, needed, python = project.asked, project.needed, project.python
    because: list[str] = [python.because] if python.because else []
    install = install_with(needed, project.document, python=python.command)
    unknown, imported = _imported(project, start)
    command = _install(project, install, start, imported, because)
    missing = ""
    if start is None:
        missing = f"{needed.file} is there, but no app object and no script to run"
        job = next((name for name in sorted(needed.names) if name in JOBS), "")
        if job:
            missing = (
                f"{needed.file} lists {job}, which runs {JOBS[job]}, and what is deployed here "
                "must answer HTTP on PORT: add a program that does"
            )
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
        tools=(python.tool, *project.others),
        install_inputs=_inputs(project, install) if is_decided else (),
        older_python=python.older if is_decided else "",
        risks=tuple(_risks(project, start, imported, unknown, toolbox)),
        read=_reached(project, start),
    )


def _reached(project: _Project, start: Start | None) -> frozenset[str]:
    """Returns the sources that the app reads as it runs; none where that is not known."""
    if start is None or not (start.file or start.package):
        return frozenset()
    found = project.imports.reached()
    pages = (name for name in project.folder.ending(".py") if _PAGES in f"/{name}")
    return found.union(pages) if found else found


_PAGES = "/pages/"  # which Streamlit, Dash and others read by themselves


def _risks(
    project: _Project,
    start: Start | None,
    imported: list[str],
    unknown: list[Import],
    toolbox: Toolbox,
) -> Iterator[Risk]:
    """Yields what may keep the packages from being installed, imported or used."""
    needed, folder = project.needed, project.folder
    if start is not None and start.refuses and not start.assigned:
        yield Risk(RiskCode.HOST_REFUSED, Stops.START, start.refuses)
    path = folder.path(needed.file) if needed.file else start.file if start else ""
    if project.python.lacking:
        yield risk_of("wheel", path, lacking=project.python.lacking)
    direct = {*needed.names, *imported, *(start.needs if start else ())}
    names = with_brought(direct)
    if any(b"/whl/cpu" in folder.data(it, limit=_LISTED) for it in needed.files if folder.has(it)):
        names.discard("torch")
        direct.discard("torch")
    yield from of_packages(direct, toolbox, manager="python", path=path, brought=names)
    if start is not None and not _OF_PAGES.isdisjoint(start.needs[:1]):
        app = find_app(folder, needed.names, "")
        if app is not None and not project.imports.follows(app.file):
            yield risk_of("app", app.file, package=app.package)
    if project.imports.absent:
        yield Risk(RiskCode.FILE_ABSENT, Stops.START, project.imports.absent)
    if unknown and needed.names <= KNOWN_PACKAGES:
        first = unknown[0]
        yield risk_of("unknown", folder.path(first.file), module=first.top, listed=path)


_LISTED = 262_144  # bytes read of a list of packages
_OF_PAGES = frozenset(runner.package for runner in RUNNERS)


def _inputs(project: _Project, install: Install) -> tuple[str, ...]:
    """Returns the files that decide what the install makes; none with an uploaded .venv."""
    if project.folder.has_directory(".venv"):
        return ()
    return tuple(project.folder.path(file) for file in sorted(install.inputs))


def leads(folder: Folder, asked: Asked) -> bool:
    """Whether the files are plainly a Python server's, and a package.json beside it is its page's.

    Django at the root is; so is an app object or a page of Streamlit and its like beside the
    requirements, or in a file of the root. Functions in api/ are parts of the page.
    """
    try:
        document = project_document(folder)
        needed = requirements(folder, document)
    except UploadInvalid:
        return False
    start = find_start(folder, needed, asked, document)
    if start is None or start.is_files or not start.needs:
        return False
    if folder.has("manage.py") or "/" not in start.file:
        return True
    return needed.file is not None and not start.file.startswith("api/")


def mentions_python(command: str) -> bool:
    """Whether a command looks like one for Python."""
    return any(word in command for word in _WORDS)


def _is_ours(folder: Folder, asked: Asked) -> bool:
    """Whether a given start command is for Python files, if there are no requirements."""
    if asked.stack is not Stack.PYTHON and not mentions_python(asked.run or ""):
        return False
    return bool(folder.ending(".py"))


def _asked_start(folder: Folder, asked: Asked, found: Start | None, needed: Requirements) -> Start:
    """Returns the given command; the server it names is installed with the requirements.

    The build of what was found stays, such as Django's static files.
    """
    run = asked.run or ""
    file, root = _begins_with(folder, run)
    servers = tuple(_SERVER_COMMAND.findall(run)[:1])
    if "uvicorn.workers." in run:
        servers = (*servers, "uvicorn")
    start = Start(run, servers, asked.run_because, file=file, root=root)
    if found is not None and found.package and _DJANGO.search(run):
        start = start._replace(
            package=found.package,
            settings=found.settings,
            root=found.root,
            refuses=found.refuses,
            environment=found.environment,
        )
        if asked.run_from.endswith("Procfile") and not found.directory:
            start = _completed(start, found, asked)
    if (
        found is None
        or found.is_files
        or found.build is None
        or bare(found.needs[0]) not in needed.names
    ):
        return start
    return start._replace(build=found.build, directory=found.directory)


def _completed(start: Start, found: Start, asked: Asked) -> Start:
    """Returns a Procfile's start of Django with what else it needs to be served here."""
    migrates, _, _ = found.command.partition("\n")
    updates = f"{found.bin}{migrates}\n" if asked.leaves_database("migrate") else ""
    return start._replace(
        needs=(*start.needs, *(it for it in found.needs if it == "whitenoise")),
        because=f"{found.because}; the server is the Procfile's",
        command=f"{found.assigned}{updates}{in_place(start.command)}",
        refuses="" if found.assigned else found.refuses,
    )


def _begins_with(folder: Folder, run: str) -> tuple[str, str]:
    """Returns the file of the upload that a given command runs, and where its imports begin."""
    script = next((n for n in _SCRIPT.findall(run) if folder.has(n)), "")
    if script:
        return script, script.rpartition("/")[0]
    modules = ((one or other).replace(".", "/") for one, other in _MODULE.findall(run))
    files = (f"{module}{end}" for module in modules for end in (".py", "/__init__.py"))
    return next((file for file in files if folder.has(file)), ""), ""


def _install(
    project: _Project,
    install: Install,
    start: Start | None,
    imported: list[str],
    because: list[str],
) -> str | None:
    """Returns the command that makes the virtual environment, or None if nothing is needed."""
    asked, needed = project.asked, project.needed
    # The path is given, because uv would otherwise use that of a project around this folder.
    venv = f"uv venv -q --clear --python {project.python.command} .venv"
    if asked.install == "":
        return ""
    if asked.install is not None:
        return f"{venv} || exit 1\n{asked.install}"
    added = [it for it in (start.needs if start else ()) if bare(it) not in needed.names]
    if not install.command and not added and not imported:
        because.append("no requirements: nothing to install")
        return venv if asked.run is not None else None
    if install.because:
        because.append(install.because)
    if "." in added:
        because.append("the project itself is installed, too, as its start looks for it")
    if added and added != ["."]:
        names = " and ".join(it for it in added if it != ".")
        because.append(
            f"{names} {'is' if len(added) == 1 else 'are'} needed and not among the requirements: "
            f"installed too{'' if '==' in names else ', in the newest version'}"
        )
    if imported:
        *others, last = imported
        names = f"{', '.join(others)} and {last} are" if others else f"{last} is"
        because.append(
            f"{names} imported, or needed by what is, and not among the requirements: installed too"
        )
    older = _older(project, [*added, *imported])
    for requirement, why in older.items():
        because.append(f"{requirement} is installed, as {why}, which later versions lack")
    fitting = _companions(project, [*added, *imported, *older])
    if fitting:
        because.append(f"{', '.join(fitting.values())}: what the app asks for runs with these")
    added = [*(one for one in (*added, *imported, *older) if bare(one) not in fitting)]
    added += fitting.values()
    if not added:
        return f"{venv} && {install.command}"
    if needed.listed or install.command.endswith(f" -r {needed.file}"):
        return f"{venv} && {install.command} {' '.join(map(quote, added))}"
    return " && ".join(step for step in (venv, install.command, install_also(added)) if step)


def _older(project: _Project, added: list[str]) -> dict[str, str]:
    """Returns requirements of versions that still have what the app imports, each with why.

    None for packages of which a lock file, or the list, has an upper bound.
    """
    needed = project.needed
    if (needed.file or "").endswith(".lock"):
        return {}
    limited = {name for name, asked in needed.specifiers if re.search(r"[=~]=|<", asked)}
    if needed.member or needed.is_poetrys:  # what is added is installed afterwards
        return {}
    return project.imports.older(needed.names.difference(limited).union(map(bare, added)))


def _companions(project: _Project, added: list[str]) -> dict[str, str]:
    """Returns requirements that pinned versions need in older ones than they say, by name."""
    needed = project.needed
    if (needed.file or "").endswith(".lock"):
        return {}
    pinned = [(bare(it), it.removeprefix(bare(it))) for it in added]
    return {bare(it): it for it in companions([*needed.specifiers, *pinned])}


def _imported(project: _Project, start: Start | None) -> tuple[list[Import], list[str]]:
    """Returns imports that nothing brings, and packages that are imported and not listed.

    Raises UploadInvalid for an import of a package that nothing names, if the app lists none.
    """
    needed = project.needed
    if start is None or start.is_files or project.asked.install is not None:
        return [], []
    locked = locked_names(project.folder, needed.file)
    names = needed.names.union(needed.located, map(bare, start.needs), locked)
    unknown, packages = project.imports.missing(names, is_listed=needed.file is not None)
    if unknown and needed.file is None:
        first = unknown[0]
        raise UploadInvalid(
            f"imports {first.top!r}, which is no file of the upload and no package known here: add "
            f"a requirements.txt with the line {normal(first.top)}, or with the package it is of",
            path=project.folder.path(first.file),
        )
    return unknown, packages


def _command(start: Start, project: _Project, install: str | None) -> str:
    if project.asked.run is not None or start.is_files:
        return start.command
    if install:
        return f"{start.assigned}{start.enter}{start.bin}{start.command}"
    program, _, arguments = start.command.partition(" ")
    own = project.python.command if program == "python" else program
    return f"{start.enter}{own} {arguments}"
