"""Finds how a Python app is started: Django, Streamlit or Gradio, an app object, or a script."""

import re
from collections.abc import Mapping, Set
from itertools import islice
from shlex import quote
from typing import Any, NamedTuple

from moorage.planning.explicit import Asked
from moorage.planning.plan import in_app
from moorage.planning.python.objects import App, find_app, is_aside
from moorage.planning.python.requirements import PACKAGES, Requirements, bare
from moorage.planning.python.sites import find_site
from moorage.planning.reading.folder import Folder
from moorage.planning.reading.formats import front_matter
from moorage.planning.static import serve

_OTHERS_LIMIT = 50  # files without a likely name that are looked into


class Runner(NamedTuple):
    """A framework, how to recognize its scripts, and what serves one."""

    package: str
    name: str
    page: re.Pattern[bytes]  # found only in the script that is the app
    program: str  # before the script's name …
    options: str = ""  # … and after it
    likely: tuple[str, ...] = ()
    is_sure: bool = False  # a likely name is enough, without the pattern
    module: str = ""  # what is imported, if that is not the package's name
    stands_for: str = ""  # a file below in whose place its directory is served …
    levels: int = 1  # … or that many further up


RUNNERS = tuple(
    Runner(
        **{
            **it,
            "page": re.compile(it["page"].encode(), re.MULTILINE),
            "likely": tuple(it.get("likely", ())),
        }
    )
    for it in PACKAGES["runner"]
)


LAUNCHERS: dict[str, dict[str, Any]] = {it["package"]: it for it in PACKAGES["launcher"]}


def runner_command(
    folder: Folder, runner: Runner, scripts: tuple[str, ...], *, is_deep: bool = False
) -> tuple[str, str]:
    """Returns the script that is the app, and the command that serves it; "" and "" if none.

    `scripts` are names that any app's script is likely to have.
    """
    likely = (*runner.likely, *scripts)
    imports = rb"^[ \t]*(?:import|from)[ \t]+%b\b" % (runner.module or runner.package).encode()
    names = importing(folder, re.compile(imports, re.MULTILINE), likely, is_deep=is_deep)
    pages = [name for name in names if runner.page.search(folder.source(name))]
    if runner.is_sure and names and (names[0].rpartition("/")[2] in likely or not pages):
        pages = names
    if not pages:
        return "", ""
    *around, file = pages[0].split("/")
    is_directory = around and file == runner.stands_for
    served = ("/".join(around[: 1 - runner.levels or None]) or ".") if is_directory else pages[0]
    return pages[0], " ".join((runner.program, _argument(served), runner.options)).strip()


def _argument(file: str) -> str:
    """Returns a file's name for a command, which would take a leading `-` for an option."""
    return quote(f"./{file}" if file.startswith("-") else file)


def imported(folder: Folder, packages: tuple[str, ...], scripts: tuple[str, ...]) -> set[str]:
    """Returns the packages that the folder's own Python files import."""
    either = "|".join(packages).encode()
    pattern = re.compile(rb"^[ \t]*(?:import|from)[ \t]+(%b)\b" % either, re.MULTILINE)
    others = [name for name in folder.files() if name.endswith(".py") and name not in scripts]
    return {
        found.decode()
        for name in (*scripts, *others[:_OTHERS_LIMIT])
        if folder.has(name)
        for found in pattern.findall(folder.source(name))
    }


def importing(
    folder: Folder, pattern: re.Pattern[bytes], likely: tuple[str, ...], *, is_deep: bool = False
) -> list[str]:
    """Returns the folder's own Python files that contain the pattern, likely names first.

    Without any, those of likely names right below, such as `dashboard/app.py`; if `is_deep`, any
    file at any depth.
    """
    others = [n for n in folder.files() if n.endswith(".py") and n not in likely]
    below = (
        f"{d}/{name}" for d in folder.directories() if not is_aside(f"{d}/x.py") for name in likely
    )
    for names in (
        (*likely, *others[:_OTHERS_LIMIT]),
        islice(below, _BELOW_LIMIT),
        _deep(folder, likely) if is_deep else (),
    ):
        there = (name for name in names if folder.has(name))
        found = [name for name in there if pattern.search(folder.source(name))]
        if found:
            return found
    return []


_BELOW_LIMIT = 500  # names that are looked for


def _deep(folder: Folder, likely: tuple[str, ...]) -> list[str]:
    names = [n for n in folder.ending(".py") if "/" in n and not is_aside(n)]
    names.sort(key=lambda name: (name.rpartition("/")[2] not in likely, name.count("/")))
    return names[:_OTHERS_LIMIT]


SCRIPTS = tuple(f"{name}.py" for name in ("main", "app", "server", "start", "bot", "hello", "run"))
BIN = ".venv/bin/"
_GRADIO = re.compile(rb"^[ \t]*(?:import|from)[ \t]+gradio\b", re.MULTILINE)
_SDK_VERSION = re.compile(r"\d{1,3}(?:\.\d{1,3}){0,2}")
_LAUNCHES = re.compile(rb"\.launch[ \t]*\(")
_SETTINGS = re.compile(rb"""DJANGO_SETTINGS_MODULE['"],[ \t]*['"]([\w.]{1,200})['"]""")
_STATIC_ROOT = re.compile(rb"^[ \t]*STATIC_ROOT[ \t]*=", re.MULTILINE)
_RUNS_SOCKETS = re.compile(rb"^[ \t]*socketio\.run\(", re.MULTILINE)
_SOCKETS = re.compile(rb"\bProtocolTypeRouter\b|['\"]websocket['\"]")
_HOSTS = re.compile(
    rb"""^[ \t]*ALLOWED_HOSTS[ \t]*=[ \t]*\[((?:\s|,|'[^'\n*]{0,100}'|"[^"\n*]{0,100}"){0,50})\]""",
    re.MULTILINE,
)
_VARIABLE = rb"[ \t\n]*['\"]([A-Z][A-Z0-9_]{2,60})['\"]"
_READ_HOSTS = re.compile(
    rb"^[ \t]*ALLOWED_HOSTS[ \t]*\+?=(?![^\n]*(?:json|eval|\*['\"]))[^\n]{0,120}?"
    rb"(?:environ\.get|getenv|environ|\benv(?:\.list)?|\bconfig)[(\[]%b"
    rb"|^([A-Z_]{3,60})[ \t]*=[ \t]*os\.(?:environ\.get|getenv)\(%b\)[\s\S]{0,400}?"
    rb"^[ \t]*ALLOWED_HOSTS(?:\.append\(|[ \t]*\+?=[ \t]*\[)\2\b" % (_VARIABLE, _VARIABLE),
    re.MULTILINE,
)
_IMPORTS = rb"^[ \t]*(?:import|from)[ \t]+%b\b"
_COMMAND = re.compile(rb"^@\w+\.command\b|\badd_parser\(|^@click\.group\b", re.MULTILINE)
_SERVE_NAMES = rb"(serve|server|runserver|start|web|api)"
_SERVES = re.compile(
    rb"(?:\badd_parser\(|^@\w+\.command\()\s{0,9}['\"]%b['\"]"
    rb"|^@\w+\.command\([^)\n]{0,100}\)(?:\n@[^\n]{0,200}){0,9}\n(?:async )?def %b\("
    % (_SERVE_NAMES, _SERVE_NAMES),
    re.MULTILINE,
)
_SOURCES = ("src", "app")
_ENTRY = re.compile(r"([A-Za-z_][\w.]{0,200}):([A-Za-z_][\w.]{0,80})\Z")
_NAME_LIMIT = 100  # characters of a command's name that are repeated
_NO_APPS = (*("setup.py", "conftest.py", "noxfile.py", "tasks.py", "gunicorn.conf.py"),)


class Start(NamedTuple):
    """A start command, and what it needs."""

    command: str  # names programs of the virtual environment without their directory
    needs: tuple[str, ...]  # packages it needs
    because: str
    build: str | None = None  # a command for the build step
    environment: tuple[tuple[str, str], ...] = ()
    assigned: str = ""  # assignments before the command, of variables made from others
    directory: str = ""  # where it builds and runs, right below the app's directory
    is_files: bool = False  # it serves the build's files, without the virtual environment
    file: str = ""  # the source it begins with
    root: str = ""  # the directory that the imports there are relative to
    package: str = ""  # Django's, with the settings
    settings: str = ""  # Django's, that its server reads
    programs: tuple[tuple[str, str], ...] = ()  # other languages', each with the file that needs it
    is_listening: bool = False  # it surely does, whatever the sources look like
    refuses: str = ""  # a sentence on the hosts that it refuses

    @property
    def bin(self) -> str:
        """The directory of the virtual environment's programs, relative to where it runs."""
        return f"../{BIN}" if self.directory else BIN

    @property
    def enter(self) -> str:
        """The prefix that makes a command run in its directory."""
        return f"cd {quote(self.directory)} && " if self.directory else ""


def find_start(
    folder: Folder, needed: Requirements, asked: Asked, document: Mapping[str, object]
) -> Start | None:
    """Returns the first way to start it, in the planner's order; `document` is pyproject.toml."""
    hint = asked.framework.name if asked.framework else ""
    plain = _django(folder) or _space(folder) or _notebook(folder, needed)
    plain = plain or _pasted(folder) or _site(folder, needed, is_docs=False)
    if plain is not None:
        return plain
    # Without requirements the sources decide, else where the requirements lead to nothing.
    used = _imported_runners(folder) if needed.file is None else set[str]()
    found = _by_runner(folder, {*needed.names, hint, *used})
    if found is not None:
        return found
    app = find_app(folder, needed.names, hint)
    if app is not None:
        served = _served(folder, app, needed.names)
        return _prepared(folder, app, _migrated(folder, app, needed.names, served))
    if needed.file is not None:
        used = _imported_runners(folder)
        found = _by_runner(folder, used) or _by_runner(folder, {*needed.names, *used}, is_deep=True)
        if found is not None:
            return found
    script = _script(folder, document)
    if script is None and not folder.has("index.html"):
        return docs_site(folder, needed)
    return script


def docs_site(folder: Folder, needed: Requirements) -> Start | None:
    """Returns the site of what documents a library or a command-line program."""
    return _site(folder, needed, is_docs=True)


def _imported_runners(folder: Folder) -> set[str]:
    packages = (*(runner.package for runner in RUNNERS), "gradio")
    likely = tuple(name for runner in RUNNERS for name in runner.likely)
    return imported(folder, packages, (*likely, *SCRIPTS))


def _by_runner(folder: Folder, used: Set[str], *, is_deep: bool = False) -> Start | None:
    for runner in (it for it in RUNNERS if it.package in used):
        served = _served_script(folder, runner, is_deep=is_deep)
        if served is not None:
            return served
    return _gradio(folder, is_deep=is_deep) if "gradio" in used else None


def _pasted(folder: Folder) -> Start | None:
    """Returns `pserve` for a project whose .ini file names its app and its server, as Pyramid's."""
    name = folder.first("production.ini", "development.ini")
    text = folder.source(name)
    is_project = folder.first("setup.py", "pyproject.toml", "setup.cfg") is not None
    if name is None or not is_project or not _PASTED.search(text):
        return None
    because = f"{name} names the app and its server: run by pserve"
    return Start(f"pserve {name}", ("pyramid", "waitress", "."), because)


_PASTED = re.compile(rb"^\[server:[\s\S]*^use[ \t]*=[ \t]*egg:", re.MULTILINE)


def _notebook(folder: Folder, needed: Requirements) -> Start | None:
    """Returns Voilà for the notebooks of an app that lists it: the only one, or their list."""
    if needed.names.isdisjoint(("voila", "panel")):
        return None
    names = [n for n in folder.ending(".ipynb") if not is_aside(n)]
    if "panel" in needed.names and len(names) == 1 and not folder.ending(".py"):
        row = next(it for it in RUNNERS if it.package == "panel")
        command = f"{row.program} {_argument(names[0])} {row.options}"
        return Start(command, ("panel", "ipykernel", "nbconvert"), f"{names[0]} is a Panel app")
    if "voila" not in needed.names or not names:
        return None
    only = f" {_argument(names[0])}" if len(names) == 1 else ""
    command = f"voila{only} --no-browser --Voila.ip=0.0.0.0 --port=$PORT"
    return Start(command, ("voila", "ipykernel"), f"{names[0]} is a notebook: served by Voilà")


def _space(folder: Folder) -> Start | None:
    """Returns the app that the front matter of a Hugging Face Space's README names."""
    said = front_matter(folder, "README.md")
    sdk, file = said.get("sdk"), str(said.get("app_file") or "app.py")
    if not folder.has(file) or not file.endswith(".py"):
        return None
    version = _SDK_VERSION.fullmatch(str(said.get("sdk_version")))
    package = f"{sdk}=={version[0]}" if version else f"{sdk}"
    because = f"README.md is a Hugging Face Space's: {sdk} runs {file}"
    if sdk == "gradio":
        return _launched(folder, file, package, because)
    runner = next((it for it in RUNNERS if it.package == sdk), None)
    if runner is None:
        return None
    command = " ".join((runner.program, _argument(file), runner.options)).strip()
    return Start(command, (package,), because, file=file)


def _django(folder: Folder) -> Start | None:
    """Returns gunicorn for a Django project, which may be in a directory beside the requirements.

    Migrations run before each start, because a deploy may bring new ones.
    """
    there = (name for name in folder.directories() if folder.has(f"{name}/manage.py"))
    directory = "" if folder.has("manage.py") else next(there, None)
    if directory is None:
        return None
    project = folder.below(directory) if directory else folder
    module = _wsgi(project)
    if module is None:
        return None
    package = module.rpartition("/")[0]
    sockets = f"{package}/asgi.py"
    has_sockets = module == sockets or (
        project.has(sockets) and _SOCKETS.search(project.source(sockets))
    )
    server = "gunicorn --bind 0.0.0.0:$PORT --threads 4"
    needs: tuple[str, ...] = ("django", "gunicorn")
    if has_sockets:
        module, server = sockets, "uvicorn --host 0.0.0.0 --port $PORT"
        needs = ("django", "uvicorn", "websockets")
    target = quote(f"{module[:-3].replace('/', '.')}:application")
    file, settings = _django_settings(project, module)
    served = _served_settings(project, module)
    hosts = _hosts_variable(project, module, file)
    collects = _STATIC_ROOT.search(settings) is not None
    option = _settings_option(project, module)
    refused = "" if hosts else _refused_hosts(project, module, file)
    own, because = _own_settings(project, module, refused)
    programs = f"{'../' if directory else ''}{BIN}"
    made = _migrations_made(project, settings, programs)
    return Start(
        f"{made}python manage.py migrate --noinput{option}\nexec {programs}{server} {target}",
        needs if _WHITENOISE not in own else (*needs, "whitenoise"),
        _django_because(project, module, settings, hosts) + because,
        environment=((hosts, "*"),) if hosts else (),
        assigned=own,
        refuses=refused,
        build=(
            f"python manage.py collectstatic --noinput{option} || echo "
            "'Static files were not collected: set buildVars as collectstatic needs them.'"
            if collects
            else None
        ),
        directory=directory,
        file="manage.py",
        root=directory,
        package=f"{directory}/{package}" if directory else package,
        settings=f"{directory}/{served}" if directory and served else served,
    )


def _wsgi(project: Folder) -> str | None:
    """Returns the wsgi.py of the package that manage.py names, else the first one, or asgi.py.

    That package may have any name, such as `example`.
    """
    managed = _SETTINGS.search(project.source("manage.py"))
    parts = managed[1].decode().split(".")[:-1] if managed else []
    for file in ("wsgi.py", "asgi.py"):
        named = ["/".join([*parts[:depth], file]) for depth in range(len(parts), 0, -1)]
        modules = (n for n in project.ending(".py") if n.endswith(f"/{file}") and not is_aside(n))
        found = project.first(*named) or next(modules, None)
        if found is not None:
            return found
    return None


def _settings_option(project: Folder, wsgi: str) -> str:
    """Returns manage.py's option for the server's settings, if its own differ."""
    served = _SETTINGS.search(project.source(wsgi))
    managed = _SETTINGS.search(project.source("manage.py"))
    if served is None or managed is None or served[1] == managed[1]:
        return ""
    return f" --settings ${{DJANGO_SETTINGS_MODULE:-{served[1].decode()}}}"


def _django_because(project: Folder, module: str, settings: bytes, hosts: str) -> str:
    files = f"{project.path('manage.py')} and {project.path(module)}"
    server = "uvicorn" if module.endswith("asgi.py") else "gunicorn"
    said = f"{files} are Django's: migrated, then run by {server}"
    if _STATIC_ROOT.search(settings):
        said += "; static files are collected, as STATIC_ROOT is set"
    if hosts:
        said += f"; {hosts} is *, as only the app's own hosts get to it"
    return said


def _served_settings(project: Folder, wsgi: str) -> str:
    """Returns the settings that wsgi.py names, "" if it names none of the upload."""
    named = _SETTINGS.search(project.source(wsgi))
    return project.first(f"{named[1].decode().replace('.', '/')}.py") or "" if named else ""


def _hosts_variable(project: Folder, module: str, file: str) -> str:
    """Returns the variable from which Django takes the hosts that it answers, "" for none."""
    for name in dict.fromkeys((_served_settings(project, module), file)):
        text = project.source(name)
        match = _READ_HOSTS.search(text) if b"ALLOWED_HOSTS" in text else None
        variable = (match[1] or match[3]) if match is not None else b""
        if variable and b"%b=" % variable not in project.source(".env"):
            return variable.decode()
    return ""


def _refused_hosts(project: Folder, module: str, file: str) -> str:
    """Returns a sentence on the hosts that Django refuses; "" where that can't be told.

    What is changed further down, or for another environment, can't.
    """
    for name in dict.fromkeys((_served_settings(project, module), file)):
        text = project.source(name)
        if b"ALLOWED_HOSTS" in text:
            return _said_hosts(project.path(name), text)
    return ""


def _said_hosts(path: str, settings: bytes) -> str:
    hosts = _HOSTS.search(settings)
    if hosts is None or b"ALLOWED_HOSTS" in settings[hosts.end() :]:
        return ""
    named = b" ".join(hosts[1].split()).decode(errors="replace")
    has = f"has only {named}" if named else "is empty"
    line = settings.count(b"\n", 0, settings.index(b"ALLOWED_HOSTS", hosts.start())) + 1
    return (
        f"ALLOWED_HOSTS, in line {line} of {path}, {has}, so Django will refuse visitors with "
        "400: add the host, or '*', as only the app's own get to it."
    )


def _own_settings(project: Folder, module: str, refused: str) -> tuple[str, str]:
    """Returns what makes settings of the app's own, with what they lack to be served, and why.

    They answer all hosts, as only the app's own get to it, and serve static files, which
    Django's development server alone would do.
    """
    name = _served_settings(project, module)
    text = project.source(name)
    added, because = [], ""
    if refused and name:
        added.append("ALLOWED_HOSTS = ['*']")
        because += "; ALLOWED_HOSTS is '*', as only the app's own hosts get to it"
    if _STATIC_FILES in text and b"whitenoise" not in text:
        own = "globals().get('MIDDLEWARE', ())"
        added += [f"MIDDLEWARE = ['{_WHITENOISE}', *{own}]", "WHITENOISE_USE_FINDERS = True"]
        because += "; WhiteNoise serves static files"
    if not added:
        return "", ""
    named = f"${{DJANGO_SETTINGS_MODULE:-{name[:-3].replace('/', '.')}}}"
    lines = "\n".join((f"from {named} import *", *added))
    return (
        f'cat > "$TMPDIR/served.py" <<SETTINGS\n{lines}\nSETTINGS\n'
        'export DJANGO_SETTINGS_MODULE=served PYTHONPATH="$TMPDIR:$PYTHONPATH"\n'
    ), because


_STATIC_FILES = b"django.contrib.staticfiles"
_WHITENOISE = "whitenoise.middleware.WhiteNoiseMiddleware"


def _migrations_made(project: Folder, settings: bytes, programs: str) -> str:
    """Returns what precedes `python`: the migrations of apps that have models and none."""
    sources = project.ending(".py")
    with_models = (
        name.removesuffix("/models.py")
        for name in sources
        if name.endswith("/models.py") and _MODEL.search(project.source(name))
    )
    labels = [
        app.rpartition("/")[2]
        for app in with_models
        if not any(re.match(rf"{app}/migrations/(?!__init__\.py)", it) for it in sources)
    ]
    used = [it for it in labels if re.search(rb"['\".]%b['\".]" % it.encode(), settings)]
    command = f"python manage.py makemigrations --noinput {' '.join(used)}"
    return f"{command} && {programs}" if used else ""


_MODEL = re.compile(rb"^class \w+\([^)]*\b(?:Model|AbstractUser|AbstractBaseUser)\b", re.MULTILINE)


def _django_settings(project: Folder, wsgi: str) -> tuple[str, bytes]:
    """Returns the file of the settings, and what is in it; "" without one."""
    package = wsgi.rpartition("/")[0]
    names = [f"{package}/settings.py", f"{package}/settings/base.py"]
    names += [f"{package}/settings/production.py", "settings.py", "config/settings/base.py"]
    name = project.first(*names)
    return (name, project.source(name)) if name else ("", b"")


def _site(folder: Folder, needed: Requirements, *, is_docs: bool) -> Start | None:
    """Returns the site that a generator builds of the folder's files."""
    is_listed = needed.file is not None and not is_docs
    site = find_site(folder, frozenset(needed.names), is_docs=is_docs, listed=is_listed)
    if site is None:
        return None
    return Start(
        serve(site.output, fallback=False),
        site.packages,
        f"{site.file} is there: {site.name} builds {site.output}/, served by Caddy",
        build=site.build,
        is_files=True,
        programs=(("go", site.file),) if site.has_modules else (),
    )


def _served_script(folder: Folder, runner: Runner, *, is_deep: bool) -> Start | None:
    name, command = runner_command(folder, runner, SCRIPTS, is_deep=is_deep)
    if not name:
        return None
    return Start(
        command,
        (runner.package,),
        f"{name} is a {runner.name} app",
        environment=_package_root(folder, name),
        assigned=_secrets_made(folder) if runner.package == "streamlit" else "",
        file=name,
    )


def _secrets_made(folder: Folder) -> str:
    """Returns what makes Streamlit's file of secrets of the app's variables, if it reads one."""
    sources = () if folder.has(SECRETS_FILE) else folder.ending(".py")[:_OTHERS_LIMIT]
    if not any(b"st.secrets" in folder.source(name) for name in sources):
        return ""
    lines = (
        "f'{json.dumps(n)} = {json.dumps(v, ensure_ascii=False)}' for n, v in os.environ.items()"
    )
    return (
        f'mkdir -p ~/.streamlit && {BIN}python -c "import json, os; '
        f"print(*({lines}), sep='\\n')\" > ~/{SECRETS_FILE}\nexec "
    )


SECRETS_FILE = ".streamlit/secrets.toml"


def _gradio(folder: Folder, *, is_deep: bool) -> Start | None:
    """Returns the script that launches Gradio, which takes host and port from its own variables."""
    names = importing(folder, _GRADIO, SCRIPTS, is_deep=is_deep)
    launching = (name for name in names if _LAUNCHES.search(folder.source(name)))
    name = next(launching, names[0] if names and names[0] in SCRIPTS else None)
    if name is None or b"mount_gradio_app(" in folder.source(name):
        return None
    return _launched(folder, name, "gradio", f"{name} is a Gradio app")


def _package_root(folder: Folder, file: str) -> tuple[tuple[str, str], ...]:
    """Returns the variable with which a script below imports a directory around it as a package."""
    root, _, below = file.rpartition("src/") if file.startswith("src/") else ("", "", file)
    text = folder.source(file) if "/" in file else b""
    for place, path in ((root, file), ("src", below)):
        top = path.partition("/")[0].encode()
        if "/" in path and top in text and re.search(_IMPORTS % top, text, re.M):
            return (("PYTHONPATH", in_app(folder.path(place))),)
    return ()


def _launched(folder: Folder, name: str, package: str, because: str) -> Start:
    row = LAUNCHERS[bare(package)]
    return Start(
        f"python {_argument(name)}",
        (package, *row["needs"]),
        because,
        environment=(*row["environment"].items(), *_package_root(folder, name)),
        assigned=f"{row['port']}=$PORT ",
        file=name,
    )


_MAIN = re.compile(r"^if[ ]__name__[^\n]*\n((?:[ \t][^\n]*\n|\n)*)", re.MULTILINE)
_MAKES = re.compile(
    r"^[ \t]+(?:(?P<database>\w+)\.create_all\(\)|(?P<base>\w+)\.metadata\.create_all\("
    r"(?:bind[ ]?=[ ]?)?(?P<engine>\w+)\)"
    r"|(?P<function>(?:init|create|setup|ensure|seed)\w*)\(\))[ \t]*$",
    re.MULTILINE,
)


def _prepared(folder: Folder, app: App, start: Start) -> Start:
    """Returns a start that makes the database before, as only the app's own script does.

    Its failure is only in the log.
    """
    text = folder.plain(app.file) + "\n"
    main = _MAIN.search(text)
    found = _MAKES.search(main[1]) if main is not None else None
    if (
        main is None
        or found is None
        or app.root
        or app.factory
        or start.command.startswith("python")
    ):
        return start
    call = found[0].strip()
    if call in text[: main.start()].replace(f"def {call}", ""):  # it does so in any case
        return start
    names = [it for it in found.group("database", "base", "engine", "function") if it]
    push = f"{app.attribute}.app_context().push(); " if app.package == "flask" else ""
    names = [app.attribute, *names] if push else names
    code = f"from {app.module} import {', '.join(dict.fromkeys(names))}; {push}{call}"
    failed = "echo 'The database was not made.'"
    own = start.command if "\n" in start.command else f"exec {BIN}{start.command}"
    return start._replace(
        command=f"python -c {quote(code)} || {failed}\n{own}",
        because=f"{start.because}, after {call}",
    )


def _migrated(folder: Folder, app: App, names: Set[str], start: Start) -> Start:
    """Returns a start that brings the app's database up to date before.

    By Flask-Migrate, Alembic, or a command that makes it, which runs once. A start without it may
    do, so its failure is only in the log.
    """
    place = folder.first("migrations/env.py", "alembic/env.py")
    versions = (place or "").removesuffix("env.py") + "versions"
    is_kept = place is not None and folder.has_directory(versions)
    flask, unless, then = f"flask --app {quote(f'{app.module}:{app.attribute}')}", "", ""
    if app.root or (app.package != "flask" and not is_kept):
        return start
    if is_kept and app.package == "flask" and "flask-migrate" in names and "migr" in f"{place}":
        program = f"{flask} db upgrade"
    elif is_kept and "alembic" in names and folder.has("alembic.ini"):
        program = "alembic upgrade head"
    elif app.package == "flask" and (command := _makes_database(folder)):
        made = '"${DATA_DIR:-.}/.database-made"'  # beside the database, as it may make it anew
        program, unless, then = f"{flask} {command}", f"test -e {made} || ", f" && touch {made}"
    else:
        return start
    failed = "echo 'The database was not brought up to date.'"
    return start._replace(
        assigned=unless,
        command=f"{program}{then} || {failed}\nexec {BIN}{start.command}",
        because=f"{start.because}, after {program}",
    )


def _makes_database(folder: Folder) -> str:
    """Returns the command of Flask's that makes a database in a file, "" for none."""
    files = (name for name in folder.ending(".py") if not is_aside(name))
    for text in (folder.source(name) for name in islice(files, _OTHERS_LIMIT)):
        found = _MAKING.search(text)
        is_file = b"import sqlite3" in text or (b"create_all" in text and b"drop_all" not in text)
        if found is not None and is_file:
            return (found[1] or found[2]).decode().replace("_", "-" if found[2] else "_")
    return ""


_MAKING = re.compile(
    rb"\.command\((?:['\"]((?:init|create)[-_]?(?:db|database))['\"]"
    rb"|\)\n(?:@[^\n]{1,100}\n){0,3}def ((?:init|create)_(?:db|database))\()"
)


def _served(folder: Folder, app: App, names: Set[str]) -> Start:
    """Returns an app object's server. gunicorn gets threads: one slow client must not block all."""
    text = folder.source(app.file)
    greens = [it for it in ("eventlet", "gevent") if it in names]
    if app.package == "flask" and _RUNS_SOCKETS.search(text) and greens:
        because = f"{app.file} runs its sockets by itself, with {greens[0]}"
        return Start(f"python {_argument(app.file)}", ("flask",), because, file=app.file)
    call = f"{app.attribute}()" if app.factory else app.attribute
    target = f"{app.module}:{app.attribute}"
    server, _, option = app.server.partition(" ")
    environment: tuple[tuple[str, str], ...] = ()
    if server == "uvicorn":
        options = " --factory" if app.factory else ""
        options += f" --app-dir {quote(app.root)}" if app.root else ""
        command = f"uvicorn --host 0.0.0.0 --port $PORT{options} {quote(target)}"
    elif server == "sanic":
        options = " --factory" if app.factory else ""
        command = f"sanic --host 0.0.0.0 --port $PORT{options} {quote(target)}"
        if app.root:
            environment = (("PYTHONPATH", in_app(folder.path(app.root))),)
    else:
        options = option or _workers(names, greens)
        options += f" --pythonpath {quote(app.root)}" if app.root else ""
        command = f"gunicorn --bind 0.0.0.0:$PORT {options} {quote(f'{app.module}:{call}')}"
    return Start(
        command,
        tuple(dict.fromkeys((app.package, server))),
        f"{app.file} has a {app.package} app, {call}: run by {server}",
        environment=environment,
        file=app.file,
        root=app.root,
    )


def _workers(names: Set[str], greens: list[str]) -> str:
    """Returns gunicorn's options; each open socket of Flask's takes a thread."""
    if "flask-socketio" in names and greens:
        return f"-k {greens[0]}"
    return "--threads 4" if names.isdisjoint(("flask-socketio", "flask-sock")) else "--threads 100"


def _script(folder: Folder, document: Mapping[str, object]) -> Start | None:
    name = folder.first(*SCRIPTS)
    if name is not None:
        start: Start | None = Start(f"python {name}", (), f"{name} is there", file=name)
    else:
        start = _entry(folder, document) or _below(folder) or _only(folder)
    return _serving(folder, start) if start is not None else None


def _serving(folder: Folder, start: Start) -> Start:
    """Returns how a program of several commands is started: by the one that serves."""
    text = folder.source(start.file)
    if (
        b"flet" in text
        and start.command == f"python {start.file}"
        and re.search(_IMPORTS % b"flet", text, re.M)
    ):
        return _launched(folder, start.file, "flet", f"{start.file} is a Flet app")
    found = _SERVES.search(text) if len(_COMMAND.findall(text)) > 1 else None
    if found is None:
        return start
    name = next(filter(None, found.groups())).decode()
    because = f"{start.because}: its command {name}"
    return start._replace(command=f"{start.command} {name}", because=because)


def _below(folder: Folder) -> Start | None:
    """Returns a script in a directory that holds apps' sources, or a package that can be run."""
    name = next((n for d in _SOURCES if (n := folder.first(*(f"{d}/{s}" for s in SCRIPTS)))), None)
    if name is not None:
        directory, _, script = name.partition("/")
        is_package = folder.has(f"{directory}/__init__.py")
        command = f"-m {directory}.{script[:-3]}" if is_package else name
        root = "" if is_package else directory
        return Start(f"python {command}", (), f"{name} is there", file=name, root=root)
    packages = [d for d in folder.directories() if folder.has(f"{d}/__main__.py")]
    if len(packages) != 1 or not packages[0].isidentifier():
        return None
    return Start(
        f"python -m {packages[0]}",
        (),
        f"{packages[0]}/__main__.py is there: the package is run",
        file=f"{packages[0]}/__main__.py",
    )


def _only(folder: Folder) -> Start | None:
    top = [file for file in folder.files() if file.endswith(".py") and file not in _NO_APPS]
    if len(top) != 1:
        return None
    because = f"{top[0]} is the only Python file"
    return Start(f"python {quote(f'./{top[0]}')}", (), because, file=top[0])


def _entry(folder: Folder, document: Mapping[str, object]) -> Start | None:
    """Returns a command of [project.scripts]: the one with the project's name, or the only one.

    It is called in the sources, because only projects with a build system are installed.
    """
    project = document.get("project")
    scripts = project.get("scripts") if isinstance(project, dict) else None
    if not isinstance(project, dict) or not isinstance(scripts, dict):
        return None
    own = [name for name in scripts if name == project.get("name") or len(scripts) == 1]
    match = _ENTRY.match(str(scripts[own[0]])) if own else None
    if match is None:
        return None
    path = match[1].replace(".", "/")
    files = [
        (f"{root}{path}{end}", root) for root in ("src/", "") for end in (".py", "/__init__.py")
    ]
    there = next(((file, root) for file, root in files if folder.has(file)), None)
    if there is None:
        return None
    file, root = there
    code = f"import sys; from {match[1]} import {match[2]}; sys.exit({match[2]}())"
    return Start(
        f"python -c {quote(code)}",
        (),
        f"pyproject.toml has the command {own[0][:_NAME_LIMIT]}: {match[0]}",
        environment=(("PYTHONPATH", in_app(folder.path("src"))),) if root else (),
        file=file,
        root=root.rstrip("/"),
    )
