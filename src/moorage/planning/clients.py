"""Finds what programs hand to clients of services: addresses and keys, from variables.

A client that is given a variable which nothing sets fails, or looks for its service beside the app.
Sources of JavaScript and PHP are searched by pattern; `clients.toml` has the names.
"""

import re
from collections.abc import Collection, Iterator
from typing import NamedTuple

from moorage.planning.reading.folder import Folder
from moorage.planning.reading.formats import by_word, marks, table

_TABLE = table("clients")
_JS = (".js", ".mjs", ".cjs", ".ts", ".mts")
DATABASES = by_word(_TABLE["kinds"])
"""By the word for a kind of database in a configuration, the service."""
_NAME = rb"([A-Z][A-Z0-9_]{2,80})"
_NO_DEFAULT = rb"(?![\w.(\[])(?!\s*(?:\|\||\?\?)(?!\s*(?:''|\"\")))"


_EMPTY = rb"\s*(?:\|\||\?\?)\s*(?:''|\"\")"


class Handed(NamedTuple):
    """A variable without a default that a client is given; `connects` at the start."""

    path: str
    variable: str
    connects: bool
    is_empty: bool = False  # whether it has a default that is no address, for the types' sake


class Sought(NamedTuple):
    """A service that a client looks for beside the app, unless the variable says where else."""

    path: str
    service: str
    variable: str


def _any(names: str) -> bytes:
    return b"|".join(re.escape(name).encode() for name in names.split())


_CALL = re.compile(
    rb"\b(?P<call>%b|%b)\s*\(\s*"
    rb"(?:(?:\w{1,60}\s*,\s*)?\{[^}]{0,200}?\b(?:%b)\s*:\s*)?"
    rb"(?:process\.env\.%b|(?P<word>[A-Za-z_$][\w.$]{0,80}))[!]?%b(?P<empty>%b)?"
    % (
        _any(_TABLE["calls"]["connect"]),
        _any(_TABLE["calls"]["make"]),
        _any(_TABLE["calls"]["keys"]),
        _NAME.replace(b"(", b"(?P<name>", 1),
        _NO_DEFAULT,
        _EMPTY,
    )
)
_CONNECT = frozenset(name.encode() for name in _TABLE["calls"]["connect"].split())
_HINTS = tuple(
    f"{name}(".encode() for key in ("connect", "make") for name in _TABLE["calls"][key].split()
)
_BOUND = re.compile(rb"\b(\w{1,80})\s*[:=]\s*process\.env\.%b!?%b" % (_NAME, _NO_DEFAULT))
_OF_RUBY = re.compile(
    rb"^[^#\n]{0,200}?\b(?:%b)[ (][^#\n]{0,80}?\bENV\[['\"]%b['\"]\](?!\s*\|\|)"
    % (_any(_TABLE["calls"]["ruby"]), _NAME),
    re.MULTILINE,
)
_FIELD = re.compile(
    rb"\b(?:%b)\s*:\s*process\.env\.%b!?%b(%b)?"
    % (_any(_TABLE["calls"]["fields"]), _NAME, _NO_DEFAULT, _EMPTY)
)
_FIELD_HINTS = tuple(name.encode() for name in _TABLE["calls"]["fields"].split())
_SETTING = re.compile(rb"^[ \t]*setting[ \t(]+:(\w{1,60})\b(?![^\n]*\bdefault:)", re.MULTILINE)
_UNPACKED = re.compile(rb"\{([^{}]{0,1000})\}\s{0,9}=\s{0,9}process\.env\b")
_WORD = re.compile(rb"\b%b\b" % _NAME)


_DEFAULTED = re.compile(rb"\b\w+\s*=[^,]*")  # a name with its default, in braces


def handed(sources: Collection[tuple[str, bytes]]) -> Iterator[Handed]:
    """Yields the variables that clients are given, also by the name of a constant or a field."""
    for path, text in sources:
        if path.endswith(".rb") and b"Hanami::Settings" in text:
            settings = _SETTING.findall(text)
            yield from (Handed(path, name.decode().upper(), True) for name in settings)
        if path.endswith(".rb") and b"ENV[" in text:
            yield from (Handed(path, name.decode(), True) for name in _OF_RUBY.findall(text))
    scripts = [(path, text) for path, text in sources if path.endswith(_JS)]
    reads = any(b"process.env" in text for _, text in scripts)
    for path, text in scripts if reads else ():
        if any(hint in text for hint in _FIELD_HINTS):
            fields = _FIELD.findall(text)
            yield from (Handed(path, name.decode(), True, bool(empty)) for name, empty in fields)
    calling = [it for it in scripts if any(hint in it[1] for hint in _HINTS)] if reads else []
    named = bound(scripts) if calling else {}
    for path, text in calling:
        end = 0
        for match in _CALL.finditer(text):
            begin, end = end, match.end()
            name, word = match["name"], match["word"] or b""
            if name is None:
                names = named.get(word.rpartition(b".")[2], set())
                name = next(iter(names)) if len(names) == 1 else None
                if name is None or re.search(rb"\bif\s*\(\s*%b\b" % re.escape(word), text):
                    continue
            connects = match["call"] in _CONNECT or not _is_inner(text, begin, match.start())
            yield Handed(path, name.decode(), connects, bool(match["empty"]))


_INDENT = 400  # bytes of spaces before a statement …
_STATEMENT = 120  # … and of it before a call


def _is_inner(text: bytes, begin: int, at: int) -> bool:
    """Whether a call is in a block or an arrow function, by its line from `begin` on."""
    begin = max(begin, at - _INDENT - _STATEMENT)
    start = text.rfind(b"\n", begin, at) + 1 or begin
    line = text[start:at]
    statement = line.lstrip(b" \t")
    is_whole = start == 0 or text[start - 1 : start] == b"\n"
    is_indented = is_whole and len(statement) < len(line) and len(statement) <= _STATEMENT
    return is_indented or b"=>" in statement[-_STATEMENT:]


def bound(scripts: Collection[tuple[str, bytes]]) -> dict[bytes, set[bytes]]:
    """Returns the variables by the names that constants and fields give to them."""
    found: dict[bytes, set[bytes]] = {}
    for _, text in scripts:
        if b"process.env" not in text:
            continue
        for word, name in _BOUND.findall(text):
            found.setdefault(word, set()).add(name)
        for inside in _UNPACKED.findall(text):
            for name in _WORD.findall(_DEFAULTED.sub(b"", inside)):
                found.setdefault(name, set()).add(name)
    return found


_KIND = re.compile(
    rb"\b(?:type|dialect|client|provider)\s*:\s*['\"](%b)['\"]|\b(%b)\(\s*\{"
    % (_any(" ".join(DATABASES)), _any(" ".join(_TABLE["makers"])))
)
_SHORT = 2  # letters, which are in many words
_WHERE_HINTS = (b"host", b"connection", b"url", b"uri")
_KIND_HINTS = marks(
    (b"type:", b"dialect:", b"client:", *(f"{it}(".encode() for it in _TABLE["makers"]))
)
# One of these names of databases and packages, which are quoted, is in what has the pattern.
_KIND_NAMES = marks(
    f"{quote}{name}".encode() if len(name) <= _SHORT else name.encode()
    for name in (*DATABASES, *(package for package, _ in _TABLE["makers"].values()))
    for quote in "'\""
)
_FROM = rb"(?:process\.env\.%b|[\w.]{0,60}\bget(?:<[^>\n]{1,40}>)?\(\s*['\"]%b['\"]\s*,?)?" % (
    _NAME,
    _NAME,
)
_WHERE = re.compile(
    rb"\b(?:host|url|uri|connection|connectionString)\s*:\s*%b\s*(?:\|\||\?\?)?\s*"
    rb"(?P<here>['\"](?:localhost|127\.0\.0\.1)['\"])?" % _FROM
)
_SOUGHT_HINTS = (_KIND_NAMES, _WHERE_HINTS, _KIND_HINTS)
_NEAR = 400  # bytes after the kind of a service in which its address is


def sought(sources: Collection[tuple[str, bytes]]) -> Iterator[Sought]:
    """Yields the services that clients look for beside the app, or by variables without one."""
    for path, text in sources:
        if not path.endswith(_JS) or b":" not in text:
            continue
        if not all(any(it in text for it in hints) for hints in _SOUGHT_HINTS):
            continue
        for match in _KIND.finditer(text):
            service = _service(match[1], match[2], text)
            where = _WHERE.search(text, match.end(), match.end() + _NEAR) if service else None
            variable = (where[1] or where[2] or b"").decode() if where else ""
            if where is not None and (variable or where["here"]):
                yield Sought(path, service, variable)
    yield from _of_php([it for it in sources if it[0].endswith(".php")])


def _service(kind: bytes | None, maker: bytes | None, text: bytes) -> str:
    if kind is not None:
        return str(DATABASES[kind.decode()])
    package, service = _TABLE["makers"][(maker or b"").decode()]
    return service if re.search(rb"['\"]%b" % package.encode(), text) else ""


_PHP_ENV = rb"(?:(?:getenv|env)\(|\$_ENV\[)['\"]%b['\"][)\]]" % _NAME
_PHP_CALL = re.compile(
    rb"mysqli_connect\(|new \\?mysqli\(|mysql:host=(?:['\"][ ]?\.[ ]?|\{)?(?:%b)?" % _PHP_ENV
)
_PHP_HOST = re.compile(
    rb"(?:\$\w{0,30}(?:host|server|servername)|['\"]\w{0,30}HOST\w{0,10}['\"])\w{0,10}['\"]?"
    rb"\s*(?:=>?|,)\s*(?:%b|['\"](?:localhost|127\.0\.0\.1)\b)" % _PHP_ENV,
    re.IGNORECASE,
)


def _of_php(sources: Collection[tuple[str, bytes]]) -> Iterator[Sought]:
    """Yields MySQL where PHP's client is called, and a name of its host is this machine."""
    calls = [(path, call) for path, text in sources if (call := _PHP_CALL.search(text))]
    for path, call in calls:
        if call[1] is not None:
            yield Sought(path, "MySQL", call[1].decode())
            return
    for path, text in sources if calls else ():
        match = _PHP_HOST.search(text)
        if match is not None:
            yield Sought(path, "MySQL", (match[1] or b"").decode())
            return


def of_packages(folder: Folder) -> Iterator[Sought]:
    """Yields the services that packages of Composer do not run without."""
    text = folder.source(_COMPOSER)
    for package, (service, variable) in _TABLE["composer"].items() if text else ():
        if b'"%b"' % package.encode() in text:
            yield Sought(folder.path(_COMPOSER), service, variable)


class Read(NamedTuple):
    """The variables that a package reads by itself; `builds` tells whether a build needs them."""

    path: str
    package: str
    variables: tuple[str, ...]
    builds: bool


def read_by_packages(folder: Folder, sources: Collection[tuple[str, bytes]]) -> Iterator[Read]:
    """Yields the variables that packages of npm insist on, unless the code hands them a key."""
    text = folder.source(_MANIFEST)
    for mark, (package, row) in _PACKAGES.items() if text else ():
        if mark not in text:
            continue
        unless = row.get("unless", "").encode()
        if not unless or not any(unless in source for _, source in sources):
            reads, builds = tuple(row["reads"].split()), bool(row.get("builds"))
            yield Read(folder.path(_MANIFEST), package, reads, builds)


def of_sveltekit(sources: Collection[tuple[str, bytes]]) -> Iterator[tuple[str, str]]:
    """Yields the variables that SvelteKit's build does not finish without, after the file."""
    for path, text in sources:
        for names in _STATIC.findall(text) if b"$env/static/" in text else ():
            yield from ((path, name.decode()) for name in _WORD.findall(names))


_MANIFEST = "package.json"
_PACKAGES = {f'"{name}"'.encode(): (name, row) for name, row in _TABLE["packages"].items()}
_STATIC = re.compile(
    rb"import\s*\{([^{}]{0,500})\}\s*from\s*['\"]\$env/static/(?:private|public)['\"]"
)


def of_rails(folder: Folder) -> Iterator[Sought]:
    """Yields the database of Rails, which DATABASE_URL names, if its file names no machine."""
    if not (folder.has(_RAILS) and folder.has("config/environment.rb")):
        return
    text = folder.source(_RAILS)
    adapter = _ADAPTER.search(text)
    if adapter is not None and not _ELSEWHERE.search(text):
        service = "PostgreSQL" if adapter[1].startswith(b"p") else "MySQL"
        yield Sought(folder.path(_RAILS), service, "DATABASE_URL")


def of_symfony(folder: Folder) -> Iterator[Sought]:
    """Yields the database of Doctrine, where its configuration takes the address of a variable."""
    found = _DOCTRINE.search(folder.source(_SYMFONY)) if folder.has(_SYMFONY) else None
    if found is not None:
        yield Sought(folder.path(_SYMFONY), "a database", found[1].decode())


_SYMFONY = "config/packages/doctrine.yaml"
_DOCTRINE = re.compile(rb"^[ \t]*url:[ \t]*['\"]?%%env\((?:resolve:)?%b\)%%" % _NAME, re.MULTILINE)


def of_sequelize(folder: Folder) -> Iterator[Sought]:
    """Yields the database of Sequelize's configuration that a variable names in production."""
    name = "config/config.json"
    text = folder.source(name)
    found = _SEQUELIZE.search(text[text.find(b'"production"') :] if text else b"")
    if found is not None:
        service = DATABASES.get(found[2].decode(), "a database") if found[2] else "a database"
        yield Sought(folder.path(name), service, found[1].decode())


_SEQUELIZE = re.compile(
    rb"\"use_env_variable\"\s*:\s*\"%b\"(?:[^{}]{0,200}\"dialect\"\s*:\s*\"(\w{1,20})\")?" % _NAME
)


def of_env_files(folder: Folder) -> Iterator[tuple[str, bytes]]:
    """Yields the files of settings in the upload, whose addresses may be those of a workplace."""
    for name in (".env", ".env.production", "config/default.json", "config/production.json"):
        if folder.has(name):
            yield folder.path(name), folder.source(name)


_COMPOSER = "composer.json"
_RAILS = "config/database.yml"
_ADAPTER = re.compile(
    rb"^[ \t]*adapter:[ \t]*['\"]?(postgresql|postgis|mysql2|trilogy)", re.MULTILINE
)
_ELSEWHERE = re.compile(
    rb"^[ \t]*(?:host|url):[ \t]*['\"]?(?!localhost|127\.|<%|\S{0,100}@(?:localhost|127))[\w]",
    re.MULTILINE,
)
