"""Reads files of other hosts where they decide how an app is built and served: `hosts.toml`.

They are read and nothing in them is refused: what can't be followed is as if left out.
"""

import posixpath
import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from shlex import join
from typing import NamedTuple

import msgspec

from moorage.errors import InvalidField, PlanNotFound, UploadInvalid
from moorage.planning.explicit import COMMAND_LIMIT, Asked, directory
from moorage.planning.interpreters import unmade, words
from moorage.planning.node.package_json import PackageJson, is_for_development, package_json
from moorage.planning.plan import quoted
from moorage.planning.reading.folder import Folder
from moorage.planning.reading.formats import table, toml_document, word_set, yaml_document


class _Web(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    key: str
    values: tuple[str, ...]  # none: any value


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A row of the table; see the words at its top."""

    names: tuple[str, ...]
    service: str = ""
    web: _Web | None = None
    directory: str = ""
    install: str = ""
    build: str = ""
    start: str = ""
    publish: str = ""
    fallback: str = ""
    rule: tuple[str, str] = ("", "")
    variables: tuple[str, ...] = ()
    sets: dict[str, str] = {}
    ignored: tuple[str, ...] = ()
    is_last: bool = False
    release: str = ""
    processes: str = ""
    worker: _Web | None = None


_FILES = msgspec.convert(table("hosts")["file"], tuple[_File, ...])
_FIRST = tuple(row for row in _FILES if not row.is_last)
_FIRST_NAMES = tuple(dict.fromkeys(name for row in _FIRST for name in row.names))
_LAST = tuple(row for row in _FILES if row.is_last)
_COMPOSE = _LAST[0].names
_NAMED_LIMIT = 6  # services in a sentence

_STEP = re.compile(r"&&|;|\n")
_PIP = r"(?:python3?[ \t]+-m[ \t]+)?pip3?[ \t]+install[ \t]+"
# Installs that the files themselves lead to: exactly what their lists of packages say.
_PLAIN_INSTALL = re.compile(
    r"(?:(?:npm|pnpm|bun)[ \t]+(?:install|i|ci)|yarn(?:[ \t]+install)?"
    rf"|{_PIP}(?:-r[ \t]+requirements\.txt|\.)"
    r"|(?:poetry|pipenv|pdm)[ \t]+(?:install|sync)(?:[ \t].*)?|uv[ \t]+sync(?:[ \t].*)?"
    r"|bundle[ \t]+install|composer[ \t]+install(?:[ \t].*)?|go[ \t]+mod[ \t]+(?:download|tidy)"
    r"|go[ \t]+get\b.*|cargo[ \t]+fetch)(?:[ \t]+-[\w-]+(?:=\S+)?)*\Z"
)
# These change what is installed.
_CHANGES = re.compile(r"--(?:legacy-peer-deps|force|no-optional|prod|production|omit|filter)\b")
# What only sets up the other host's machine.
_SETUP = re.compile(
    r"(?:set[ \t]+-.*|corepack[ \t]+enable.*|cd[ \t]+\.|\.\.\.|echo\b.*|chmod\b.*|:|true"
    r"|(?:npm|yarn|pnpm)[ \t]+(?:install|i|add|global[ \t]+add)[ \t]+(?:-g|--global)\b.*"
    rf"|{_PIP}(?:(?:-U|--upgrade)[ \t]+.*|poetry|pipenv|uv|pdm))\Z"
)
_MIGRATES = re.compile(
    r"python3?[ \t]+manage\.py[ \t]+migrate\b"
    r"|(?:bundle[ \t]+exec[ \t]+|bin/)?(?:rails|rake)[ \t]+db:(?:migrate|prepare)\Z"
    r"|(?:npx[ \t]+)?prisma[ \t]+migrate[ \t]+deploy\Z|(?:npx[ \t]+)?knex[ \t]+migrate:latest\Z"
    r"|alembic[ \t]+upgrade\b|flask[ \t]+db[ \t]+upgrade\b|php[ \t]+artisan[ \t]+migrate\b"
)
_SCRIPT = re.compile(r"(?:(?:ba)?sh[ \t]+)?(?:\./)?([\w./-]{1,100}\.sh)\Z")
_IMAGE = re.compile(r"[\w./:@-]{1,100}")
_NOT_PLAIN = re.compile(
    r"\[\[|\$[\d@*]|\$\{?(?:BASH|\d|@)|\(\)|<<|\\$|^[ \t]*(?:if|for|while|case|source|trap)\b",
    re.MULTILINE,
)
_OTHER_INSTALL = re.compile(r"(?:npm|yarn|pnpm|bun|pip3?|uv|python3?[ \t]+-m[ \t]+pip)[ \t]")
_INSTALLS = re.compile(r"\b(?:install|ci|add|sync)\b")
_BY_MANAGER = re.compile(
    r"(?:npm|yarn|pnpm|bun)(?:[ \t]+run)?[ \t]+(?P<script>[\w:-]+)(?:[ \t]+-[\w-]+)*\Z"
)
_ALL_TO_PAGE = re.compile(r"^/\*[ \t]+/(?:index\.html)?[ \t]+200\b", re.MULTILINE)
_KNOWN = word_set(
    "npm npx yarn pnpm pnpx bun bunx node python python3 pip pip3 uv php composer bundle ruby "
    "go cargo java mvn gradle sh bash cp mv rm mkdir cd export env cat sed ng tsc eleventy "
    "vue-cli-service react-scripts turbo nx next"
)
_EVERY_PATH = ("/*", "/(.*)", "/:path*", "**", "/**", "/(.*)*", "(.*)", "/:match*", "*")
_ENV_NAME = re.compile(r"[A-Za-z_]\w{0,127}\Z", re.ASCII)
_OWN_VARIABLES = frozenset(("PORT", "HOST", "NODE_ENV", "PATH", "HOME", "TMPDIR", "DATA_DIR"))
_SET_LIMIT = 100  # variables of one file
_PAGE = ("/index.html", "/", "index.html", "/200.html")


class Wishes(NamedTuple):
    """What a file of another host decides; "" is what it leaves open."""

    file: str = ""
    directory: str = ""
    install: str = ""
    build: str = ""
    start: str = ""
    publish: str | None = None
    fallback: bool = False
    is_last: bool = False
    variables: tuple[tuple[str, str], ...] = ()  # of the builds and the app
    secrets: tuple[str, ...] = ()  # variables with a random value
    release: str = ""  # what runs once a deployment
    needed: tuple[tuple[str, str], ...] = ()  # variables that its deployer gives, with the file
    ignored: tuple[str, ...] = ()  # sentences on what of a site has no effect here


_NOTHING = Wishes()


def wishes(folder: Folder) -> Wishes:
    """Returns what files of other hosts decide for an app in the folder.

    They may be around it, if they name it: the nearest decide.
    """
    for place in (folder, *folder.parents()):
        wish = _first(place)
        named = place.below(wish.directory) if wish.directory else place
        if wish.file and named.directory == folder.directory:
            is_followed = _steps(folder, wish, package_json(folder)).is_followed
            return wish if is_followed else wish._replace(install="", build="", publish=None)
    return _NOTHING


def named_directory(root: Folder) -> tuple[str, str]:
    """Returns the directory that a file of another host names as the app's, and the file."""
    wish = _first(root)
    return wish.directory, wish.file


def _first(folder: Folder) -> Wishes:
    """Returns what the folder's own files decide: the first that starts the app's.

    Without one, the first that says anything at all. Variables of all of them count. Files that
    count last are left out.
    """
    rows = _FIRST if folder.first(*_FIRST_NAMES) is not None else ()
    found = [wish for row in rows if (wish := _read(folder, row)).file]
    wish = _NOTHING
    if found:
        starting = (wish for wish in found if wish.start)
        wish = next(starting, next((it for it in found if _decides(it)), _NOTHING))
        wish = wish._replace(
            file=wish.file or found[0].file,
            variables=tuple({n: v for it in found for n, v in it.variables}.items()),
            secrets=tuple(dict.fromkeys(name for it in found for name in it.secrets)),
            release=next((it.release for it in found if it.release), ""),
            needed=tuple(pair for it in found for pair in it.needed),
            ignored=tuple(sentence for it in found for sentence in it.ignored),
        )
    name = folder.first("_redirects", "public/_redirects", "static/_redirects")
    text = folder.plain(name)
    if name is None or not _ALL_TO_PAGE.search(text):
        return wish
    return wish._replace(file=wish.file or folder.path(name), fallback=True)


def last_wishes(folder: Folder, *, refuses: bool = True) -> Wishes:
    """Returns what a compose file decides. Raises PlanNotFound, naming them, for several builds."""
    found = (_read(folder, row, refuses=refuses) for row in _LAST)
    return next((wish for wish in found if wish.file), _NOTHING)


def followed(folder: Folder, wanted: Asked, wish: Wishes) -> Asked:
    """Returns the commands with those of the file that the settings and a Procfile leave open."""
    if not wish.file:
        return wanted
    manifest = package_json(folder)
    steps = _steps(folder, wish, manifest)
    if wanted.install is not None or wanted.build is not None:
        steps = steps._replace(install="", build="")
    run, run_because, run_from = wanted.run, wanted.run_because, wanted.run_from
    if run is None and _starts(wish.start, folder, manifest, has_build=bool(steps.build)):
        run, run_from = by_shell(folder, wish.start), wish.file
        run_because = f"{wish.file} starts it: {quoted(run)}"
        if steps.migrates:
            run = f"{steps.migrates} && {run}"
    said = [
        f"{wish.file} {verb} {quoted(command)}"
        for verb, command in (("installs by", steps.install), ("builds by", steps.build))
        if command
    ]
    return wanted._replace(
        install=steps.install or wanted.install,
        build=steps.build or wanted.build,
        run=run,
        run_because=run_because,
        run_from=run_from,
        said=(*wanted.said, *said),
    )


def _read(folder: Folder, row: _File, *, refuses: bool = False) -> Wishes:
    """Returns what one file says; an empty answer without it, or where it decides nothing."""
    name = folder.first(*row.names)
    document = _document(folder, name) if name else None
    if name is None or not isinstance(document, Mapping):
        return _NOTHING
    path = folder.path(name)
    service: object = document
    if row.service:
        services = _services(document, row)
        if len(services) > 1 and refuses:
            raise PlanNotFound(
                _several(path, services, row), looked_for=("settings.directoryPath",)
            )
        if len(services) != 1:
            return _NOTHING
        service = next(iter(services.values()))
    publish = _text(_at(service, row.publish))
    where = _text(_at(service, row.directory) if row.directory != "build" else _context(service))
    place = _directory(where) or ""
    wish = Wishes(
        path,
        place if folder.has_directory(place) else "",
        _command(_at(service, row.install)),
        _command(_at(service, row.build)),
        _command(_at(service, row.start), is_words=True),
        _directory(_inside(publish, place)) if publish else None,
        any(_is_fallback(rule, row) for rule in _list(_at(service, row.fallback))),
        row.is_last,
        *_variables((row.sets, *(_at(service, key) for key in row.variables))),
        _command(_at(service, row.release)),
        tuple(_needed((_at(service, key) for key in row.variables), path)),
        tuple(_ignored(path, service, row)),
    )
    return wish if _decides(wish) or any(wish[8:]) else _NOTHING


def _decides(wish: Wishes) -> bool:
    """Whether it says how the app is built, started or served."""
    return any(wish[1:7]) or wish.publish is not None


def _ignored(path: str, service: object, row: _File) -> Iterator[str]:
    """Yields sentences on rules of the file that have no effect on a site here."""
    source, target = row.rule
    rules = [it for it in _list(_at(service, row.fallback)) if not _is_fallback(it, row)]
    sent = [it for it in rules if _text(_at(it, target)).startswith(("http://", "https://"))]
    for rule in sent[:1]:
        where = quoted(_text(_at(rule, target)))
        yield (
            f"{path} sends {quoted(_text(_at(rule, source)))} to {where}, which does not happen "
            "here: let the page ask for that address itself"
        )
    names = [key.rpartition(".")[2] for key in row.ignored if _at(service, key)]
    if rules and not sent:
        names.insert(0, row.fallback.rpartition(".")[2])
    if names:
        yield f"{path}: {', '.join(names)} have no effect here"


def _needed(given: Iterable[object], path: str) -> Iterator[tuple[str, str]]:
    """Yields the variables for which a file has no value, and which its deployer must give."""
    for name, entry in islice((pair for them in given for pair in _entries(them)), _SET_LIMIT):
        is_asked = _at(entry, "required") is True or _at(entry, "sync") is False
        if is_asked and not _at(entry, "value") and _ENV_NAME.match(name):
            yield name, path


def _variables(given: Iterable[object]) -> tuple[tuple[tuple[str, str], ...], tuple[str, ...]]:
    """Returns variables with their values, and the names of those that get a random one.

    Others depend on what that host has: an add-on, a secret that is stored there.
    """
    values, random = dict[str, str](), dict[str, None]()
    for name, entry in islice((pair for them in given for pair in _entries(them)), _SET_LIMIT):
        written = entry if isinstance(entry, str | int) else _at(entry, "value")
        if not _ENV_NAME.match(name) or name in _OWN_VARIABLES:
            continue
        if isinstance(written, bool):
            written = "true" if written else "false"
        is_random = _at(entry, "generator") == "secret" or _at(entry, "generateValue") is True
        if is_random:
            random[name] = None
        elif isinstance(written, str | int) and _is_plain(str(written)):
            values[name] = str(written)
    return tuple(values.items()), tuple(random)


def _entries(given: object) -> Iterator[tuple[str, object]]:
    """Yields names and what is said of each, of a mapping or a list of mappings."""
    if isinstance(given, Mapping):
        yield from ((str(name), entry) for name, entry in given.items())
    for entry in _list(given):
        yield str(_at(entry, "key") or ""), entry


def _is_plain(value: str) -> bool:
    """Whether it is a variable's value, and not what another host puts in its place."""
    is_stored = value.startswith(("@", "EV[")) or "$" in value
    return bool(value) and len(value) <= COMMAND_LIMIT and value.isprintable() and not is_stored


def _document(folder: Folder, name: str) -> object:
    """Returns what a file of another host says, which is asked many times; None if unreadable."""
    return folder.parsed(name, _parsed)


def _parsed(folder: Folder, name: str) -> object:
    try:
        if name.endswith(".toml"):
            return toml_document(folder, name)
        if name.endswith((".yaml", ".yml")):
            return yaml_document(folder.plain(name))
        return msgspec.json.decode(folder.source(name))
    except (UploadInvalid, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def other_process(folder: Folder) -> tuple[str, str]:
    """Returns a file of another host, and a program that it starts beside the server; or ""."""
    for row in _STARTING:
        name = folder.first(*row.names)
        if name is None:
            continue
        listed = _at(_document(folder, name), row.processes)
        if isinstance(listed, list) and row.worker is not None:
            key, kinds = row.worker.key, row.worker.values
            found = [_text(_at(it, "name")) or kinds[0] for it in listed if _at(it, key) in kinds]
        else:
            entries = listed if isinstance(listed, Mapping) else {}
            found = [str(it) for it in entries if str(it) not in _SERVERS_NAMES]
        if found:
            return folder.path(name), found[0][:60]
    return "", ""


_STARTING = tuple(row for row in _FILES if row.processes)
_SERVERS_NAMES = ("app", "web", "release")


def _services(document: Mapping[object, object], row: _File) -> dict[str, object]:
    """Returns the services that are for visitors, by their names."""
    listed = _at(document, row.service)
    if isinstance(listed, list):
        listed = {str(_at(one, "name") or n): one for n, one in enumerate(listed, start=1)}
    if not isinstance(listed, Mapping):
        return {}
    named: dict[str, object] = {
        str(name)[:60]: one for name, one in listed.items() if isinstance(one, Mapping)
    }
    if row.web is None:
        return named
    key, values = row.web.key, row.web.values
    return {n: s for n, s in named.items() if (_at(s, key) in values if values else _at(s, key))}


def _several(path: str, services: Mapping[str, object], row: _File) -> str:
    names = []
    for name, service in list(services.items())[:_NAMED_LIMIT]:
        where = _directory(_context(service) if row.directory == "build" else "") or ""
        names.append(f"{name} in {where}" if where else name)
    return (
        f"{path} builds {len(services)} services ({', '.join(names)}), and a project here is one "
        "app: set settings.directoryPath to the one to deploy, and deploy each under a name of "
        "its own."
    )


def _context(service: object) -> str:
    """Returns the directory that a service of a compose file is built from."""
    build = _at(service, "build")
    return _text(build) or _text(_at(build, "context"))


def _at(document: object, path: str) -> object:
    """Returns the value at a dotted path, None without one."""
    for key in path.split("."):
        document = document.get(key) if isinstance(document, Mapping) else None
    return document if path else None


def _text(value: object) -> str:
    return value.strip() if isinstance(value, str) else ""


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else []


def _command(value: object, *, is_words: bool = False) -> str:
    """Returns a command, or a list of them or of its words, as a line; "" if it is none."""
    parts = [_text(part) for part in value] if isinstance(value, list) else [_text(value)]
    if isinstance(value, list) and is_words:
        line = join(parts)
    else:
        line = " && ".join(part for part in parts if part)
    is_fine = len(line) <= COMMAND_LIMIT and "\0" not in line and "\ufffd" not in line
    return line if is_fine and line.replace("\n", "").replace("\t", "").isprintable() else ""


def _directory(value: str) -> str | None:
    try:
        return directory("hosts.toml", value)
    except InvalidField:
        return None


def _inside(path: str, place: str) -> str:
    """Returns a path from the app's directory, which may be written from the upload's root."""
    return path.strip("/").removeprefix(f"{place}/") if place else path


def _is_fallback(rule: object, row: _File) -> bool:
    source, target = (_text(_at(rule, key)) for key in row.rule)
    is_shown = str(_at(rule, "status") or 200) == "200"  # others send visitors there
    return source in _EVERY_PATH and target in _PAGE and is_shown


class _Steps(NamedTuple):
    """What a file's commands say beyond the app's other files."""

    install: str = ""
    build: str = ""
    migrates: str = ""  # what brings a database up to date, at the start: builds see none
    is_followed: bool = True  # false: a step runs a program that nothing here brings


def _steps(folder: Folder, wish: Wishes, manifest: PackageJson | None) -> _Steps:
    """Returns the steps that a file names, without those that planning finds by itself."""
    installs: list[str] = []
    builds: list[str] = []
    commands = [*_split(folder, wish.install), *_split(folder, wish.build)]
    for step in commands:
        is_plain = _PLAIN_INSTALL.match(step) and not _CHANGES.search(step)
        if is_plain or _SETUP.match(step) or _MIGRATES.match(step):
            continue
        if not all(_is_known(word, manifest) for word in words(step)[:1]):
            return _Steps(is_followed=False)
        if not builds and _OTHER_INSTALL.match(step) and _INSTALLS.search(step):
            installs.append(step)
        else:
            builds.append(step)
    script = _BY_MANAGER.match(builds[0]) if len(builds) == 1 else None
    is_detected = script is not None and script["script"] == "build"
    return _Steps(
        " && ".join(installs),
        "" if is_detected else " && ".join(builds),
        next((step for step in commands if _MIGRATES.match(step)), ""),
    )


def _split(folder: Folder, command: str) -> list[str]:
    """Returns the steps of a command; of a plain script of the upload, its lines."""
    steps = [step.strip() for step in _STEP.split(command)]
    found: list[str] = []
    for step in filter(None, steps):
        name = _script(folder, step)
        text = "\n".join(_lines(folder, name)) if name else ""
        plain = [it.strip() for it in _STEP.split(text)] if not _NOT_PLAIN.search(text) else []
        found += [it for it in plain if it] or [f"bash ./{name}" if name else step]
    return found


def _script(folder: Folder, command: str) -> str:
    """Returns the script of the upload that a command runs, "" if it is more or another one.

    An upload may have lost that its files can be run, so scripts are given to a shell.
    """
    match = _SCRIPT.match(command)
    name = match[1].removeprefix("./") if match is not None else ""
    return name if name and folder.has(name) else ""


def _is_known(program: str, manifest: PackageJson | None) -> bool:
    """Whether the machine, the upload or one of the app's packages may bring a program."""
    if program in _KNOWN or program.startswith("./"):
        return True
    return manifest is not None and manifest.depends_on(program)


def _starts(command: str, folder: Folder, manifest: PackageJson | None, *, has_build: bool) -> bool:
    """Whether the command starts the app here, and says more than the app's other files."""
    if not command or command.startswith("/") or "docker" in command:
        return False
    if not has_build and unmade(command, folder):
        return False
    by_manager = _BY_MANAGER.match(command)
    if by_manager is None:
        return not is_for_development(command)
    script = manifest.script(by_manager["script"]) if manifest is not None else ""
    return bool(script) and by_manager["script"] != "start" and not is_for_development(script)


def by_shell(folder: Folder, command: str) -> str:
    """Returns a command; by bash, if it is a script of the upload, which may not be executable."""
    name = _script(folder, command)
    return f"bash ./{name}" if name else command


def services_beside(folder: Folder) -> str:
    """Says which services of a compose file are images, which do not run here; "" for none."""
    path, services, own = _compose(folder)
    images = {
        str(service): _text(_at(entry, "image"))
        for service, entry in services.items()
        if not _at(entry, "build")
        and _IMAGE.fullmatch(_text(_at(entry, "image")))
        and not _mounts_app(entry)
    }
    others = [
        f"{str(it)[:60]} in {_directory(_context(entry))}"
        for it, entry in services.items()
        if str(it)[:60] not in own and _context(entry)
    ]
    if not images:
        named = ", ".join(others[:_NAMED_LIMIT])
        return (
            f"{path} builds {named} as well, which is an app of its own" if own and others else ""
        )
    named = ", ".join(f"{it[:60]} ({image})" for it, image in [*images.items()][:_NAMED_LIMIT])
    return (
        f"{path} has {named}, which this project does not run: give the app the "
        "address of one that runs elsewhere by settings.runEnvs"
    )


def only_image(folder: Folder) -> str:
    """Returns the first image of a compose file that publishes ports, if none of it is built."""
    _, services, _ = _compose(folder)
    if any(_at(it, "build") or _mounts_app(it) for it in services.values()):
        return ""
    images = (_text(_at(it, "image")) for it in services.values() if _at(it, "ports"))
    return next((image for image in images if _IMAGE.fullmatch(image)), "")


def _mounts_app(entry: object) -> bool:
    """Whether a service is the upload itself, in an image of its language."""
    volumes = _at(entry, "volumes")
    listed = volumes if isinstance(volumes, list) else []
    return any(_text(it).startswith(("./:", ".:")) for it in listed)


_SERVICE = re.compile(r"[\w.-]{1,60}")
_NAMES_HOST = re.compile(r"(?:HOST|HOSTNAME|SERVER|ADDR|ADDRESS|URL|URI)\Z")
_ENTRY = re.compile(r"([A-Za-z_]\w{0,100})=(.{1,500})")


def addresses_beside(folder: Folder) -> tuple[str, dict[str, str]]:
    """Returns a compose file, and variables that it gives the app it builds here.

    Those that have the address of a service which is an image, each with this service.
    """
    path, services, own = _compose(folder)
    images = [
        str(it)
        for it, entry in services.items()
        if not _at(entry, "build") and _SERVICE.fullmatch(str(it))
    ]
    host = "|".join(re.escape(it) for it in images[:_SET_LIMIT])
    at = re.compile(rf"(?:\A|://(?:[^@/\s]{{0,200}}@)?)({host})(?=(:\d|/)|\Z)")
    found: dict[str, str] = {}
    for entry in own.values() if host else ():
        for variable, value in _environment(_at(entry, "environment")):
            match = at.search(value)
            if match and ("://" in value or match[2] or _NAMES_HOST.search(variable)):
                found[variable] = match[1]
    return path, dict(islice(found.items(), _SET_LIMIT))


def process_beside(folder: Folder) -> tuple[str, str]:
    """Returns a compose file, and the service of it that is built as the app is and is no server.

    "" and "" for none: a server, which publishes ports, must be among those that are built so.
    """
    path, _, own = _compose(folder)
    serving = [name for name, entry in own.items() if _at(entry, "ports") or _at(entry, "expose")]
    others = (name for name, entry in own.items() if name not in serving and _at(entry, "command"))
    return (path, next(others, "")) if serving else ("", "")


def _compose(folder: Folder) -> tuple[str, Mapping[object, object], dict[str, object]]:
    """Returns the nearest compose file's path, its services, and those built of this folder.

    One around the folder counts if it builds the folder.
    """
    here = folder.directory or "."
    for place in (folder, *folder.parents()):
        name = place.first(*_COMPOSE)
        if name is None:
            continue
        services = _at(_document(place, name), "services")
        if not isinstance(services, Mapping):
            continue
        own = {
            str(it)[:60]: entry
            for it, entry in islice(services.items(), _SET_LIMIT)
            if _context(entry) and posixpath.normpath(place.path(_context(entry))) == here
        }
        if own or place is folder:
            return place.path(name), services, own
    return "", {}, {}


def _environment(given: object) -> Iterator[tuple[str, str]]:
    """Yields the variables of a compose file's service: a mapping, or a list of NAME=VALUE."""
    lines = (
        [f"{name}={value}" for name, value in given.items()] if isinstance(given, Mapping) else []
    )
    for line in islice((*lines, *map(_text, _list(given))), _SET_LIMIT):
        match = _ENTRY.fullmatch(line)
        if match is not None:
            yield match[1], match[2]


def start_script(folder: Folder) -> tuple[str, str]:
    """Returns a script of the root that starts an app, and the command for it; "" without one."""
    name = folder.first("start.sh", "run.sh")
    lines = _lines(folder, name) if name else []
    if name is None or not lines or any(re.match(r"(?:sudo[ \t]+)?docker\b", it) for it in lines):
        return "", ""
    plain = "\n".join(lines)
    is_plain = len(plain) <= COMMAND_LIMIT and "\0" not in plain and not _NOT_PLAIN.search(plain)
    return name, plain if is_plain else f"bash ./{name}"


def _lines(folder: Folder, name: str) -> list[str]:
    """Returns a script's lines that are neither empty nor comments."""
    text = folder.plain(name).replace("\r", "")
    return [it for it in text.splitlines() if it.strip() and not it.lstrip().startswith("#")]
