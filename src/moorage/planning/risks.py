"""Finds what may keep an app from being built, started or answering, without running anything.

Each risk is plain from the files: a variable that the app insists on and nothing sets, a service
that nothing here runs, a program that no package brings. What merely might be is left out. Sources
are searched by pattern, up to a limit.
"""

import re
from collections.abc import Collection, Iterable, Iterator

from moorage.planning import clients, hosts, variables
from moorage.planning.plan import Plan, Risk, Stack, Stops, quoted, risk_of
from moorage.planning.python.starts import SECRETS_FILE
from moorage.planning.reading.folder import Folder
from moorage.planning.reading.formats import by_word, marks, table, word_set, word_tuple
from moorage.planning.static import function_of
from moorage.planning.toolbox import Toolbox
from moorage.planning.variables import Source

_TABLE = table("risks")
EXTENSIONS_OF = {name: tuple(listed.split()) for name, listed in _TABLE["php"]["packages"].items()}
"""By package of Composer, PHP's extensions that it asks for."""
_NAMES_LIMIT = 2_000
_FILES_LIMIT = 300
_TOTAL_LIMIT = 262_144  # of all
_NAMED_LIMIT = 6  # variables in one risk


_PROGRAMS, _BRINGS = (
    {manager: by_word(_TABLE[manager][key]) for manager in ("python", "node")}
    for key in ("programs", "brings")
)


def of_packages(
    names: Collection[str],
    toolbox: Toolbox,
    *,
    manager: str,
    path: str,
    brought: Collection[str] = (),
) -> Iterator[Risk]:
    """Yields what packages need besides; `manager` is `python` or `node`, `path` lists them.

    `brought` are those that they bring along.
    """
    rows = _TABLE[manager]
    with_them = {program for name, program in _BRINGS[manager].items() if name in names}
    for package, program in _PROGRAMS[manager].items():
        if package in names and program not in toolbox.programs and program not in with_them:
            yield risk_of("program", path, package=package, program=program)
    for package, instead in rows["replaced"].items():
        if package in names and instead not in names:
            yield risk_of("replaced", path, package=package, instead=instead)
    for package, mib in rows["mib"].items():
        if (package in names or package in brought) and 0 < toolbox.disk_mib < mib:
            yield risk_of("disk", path, package=package, mib=mib, disk=toolbox.disk_mib)


def of_site(folder: Folder) -> list[Risk]:
    """Returns which function of another host, beside a site's pages, does not run here."""
    function, host = function_of(folder)
    return [risk_of("function", function, host=host)] if function else []


def of_sources(
    folder: Folder,
    plan: Plan,
    toolbox: Toolbox,
    given: Collection[str],
    *,
    read: Collection[str] = (),
    needed: Collection[tuple[str, str]] = (),
) -> list[Risk]:
    """Returns what the app's own sources insist on; `given` are the variables that are set.

    `needed` are variables that files of other hosts ask for, each with its file.
    `read` are the sources of Python that the app reads as it starts, none if that is not known.
    """
    sources = _sources(folder, read)
    known = {
        *given,
        *plan.run_env,
        *(plan.secrets or ()),
        *variables.OWN,
        *variables.of_env_files(folder),
    }
    services: set[str] = set()
    insisted = variables.insisted(sources, known)
    absent = _named_by((*insisted, *_services(folder, sources, known, services)), known)
    absent += _named_by(_beside(folder, sources, known), known)
    absent += _named_by(_handed(sources, known), known)
    absent += _named_by(_sought(sources, known, services), known)
    absent += _named_by(_read_by_packages(folder, sources, known), known)
    absent += _needed(needed, sources, known)
    modules = [it for it in sources if it.path.endswith(".py")]
    return [
        *absent,
        *_commands(sources, toolbox),
        *(_left_out(folder) if plan.listens else ()),
        *_secrets_file(folder, modules, known, is_made=SECRETS_FILE in plan.start),
        *_files(folder, modules),
        *_libraries(folder, toolbox),
        *(() if _ANY_HOST in plan.start else _refusing(modules)),
        *(_extensions(sources, toolbox) if plan.stack is Stack.PHP else ()),
    ]


def prepared(folder: Folder, *, read: Collection[str]) -> Iterator[tuple[str, str]]:
    """Yields commands before the start that give the app the places it writes to, each with why."""
    sources = _sources(folder, read)
    for name, place in variables.elsewhere(sources).items():
        said = f"{name} is /app/{place}, or on the volume: nothing is written outside them"
        yield f'export {name}="${{{name}:-${{DATA_DIR:-/app}}/{place}}}"', said
    absent = variables.directories_of_databases(sources)
    absent = [name for name in absent if not folder.has(name) and not folder.has_directory(name)]
    if absent:
        named = " ".join(absent)
        yield (
            f"mkdir -p {named}",
            f"{named} is made, as a database is there and no file of the upload",
        )


def stand_ins(folder: Folder) -> dict[str, str]:
    """Returns values for the variables that modules insist on as a build loads them.

    None for those of pages, into which a build writes their true values.
    """
    sources = _sources(folder)
    known = {*variables.of_env_files(folder), *variables.optional(sources)}
    names = {it.variable for it in clients.handed(sources) if it.connects}
    for risk in variables.insisted(sources, known):
        names.update(risk.variables if risk.stops is Stops.START else ())
    return {
        name: next((value for word, value in _STAND_INS.items() if word in name), "none-in-builds")
        for name in sorted(names - known)
        if "PUBLIC_" not in name
    }


_STAND_INS: dict[str, str] = _TABLE["stand_ins"]


def _named_by(risks: Iterable[Risk], known: set[str]) -> list[Risk]:
    """Returns the risks, whose variables are `known` to those that follow."""
    found = [*risks]
    for risk in found:
        known.update(risk.variables)
    return found


_ENDINGS = word_tuple(".py .js .mjs .cjs .ts .mts .jsx .tsx .prisma .rb .go .rs .php .java .kt")
_OF_SPRING = ("application.properties", "application.yml")
_ASIDE = re.compile(
    r"(?:^|/)(?:tests?|__tests__|specs?|e2e|extras?|examples?|docs?|scripts?|node_modules|\.venv|vendor|dist"
    r"|build|alembic|migrations|public|static)/|\.(?:test|spec|d)\.|(?<!payload)\.config\.|(?:^|/)(?:test_|conftest)"
    r"|(?:^|/)(?:deploy|fabfile|noxfile|seed|setup)\.[a-z]{2,3}\Z"
)


_MANY = 60  # files of which more may be there than are searched
# Where most variables are read, of many files: names without their ending, and directories.
_LIKELY = word_set("env config settings db database prisma schema auth server main app index")
_LIKELY_IN = frozenset(("config", "db", "database", "server", "lib"))


def _sources(folder: Folder, read: Collection[str] = ()) -> list[Source]:
    return folder.once(("sources", frozenset(read)), lambda: [*_searched(folder, read)])


def _searched(folder: Folder, read: Collection[str]) -> Iterator[Source]:
    left, count = _TOTAL_LIMIT, 0
    names = folder.ending(*_ENDINGS)
    spring = [it for it in folder.ending(".properties", ".yml") if it.endswith(_OF_SPRING)]
    if spring:
        names = sorted((*names, *spring))
    if read:
        names = [name for name in names if name in read or not name.endswith(".py")]
    for name in _likely_first(names[:_NAMES_LIMIT]) if len(names) >= _MANY else names:
        if _ASIDE.search(name):
            continue
        count += 1
        if count > _FILES_LIMIT or left <= 0:
            return
        data = folder.source(name)
        left -= len(data)
        yield Source(name, _without_docstrings(data) if name.endswith(".py") else data)


def _likely_first(names: Iterable[str]) -> list[str]:
    likely, others = list[str](), list[str]()
    for name in names:
        directory, _, file = name.rpartition("/")
        is_likely = file.rpartition(".")[0] in _LIKELY or directory.rpartition("/")[2] in _LIKELY_IN
        (likely if is_likely else others).append(name)
    return likely + others


_TRIPLE = re.compile(rb"\"\"\"[\s\S]*?\"\"\"|'''[\s\S]*?'''")


def _without_docstrings(text: bytes) -> bytes:
    """Returns a source of Python without strings that are statements of their own."""
    kept, end = list[bytes](), 0
    for match in _TRIPLE.finditer(text):
        if not text[text.rfind(b"\n", 0, match.start()) + 1 : match.start()].strip(b" \trR"):
            kept.append(text[end : match.start()])
            end = match.end()
    return b"".join((*kept, text[end:]))


# Services

_SERVICES = by_word(_TABLE["services"])
_HOSTS = b"|".join(re.escape(name).encode() for name in _TABLE["hosts"]["names"].split())
_SCHEME = re.compile(rb"(?<![\w+])(%b)(?:\+\w{1,20})?\Z" % "|".join(_SERVICES).encode())
_HOST = re.compile(  # without a name, it is a socket of this machine's
    rb"://(?:[^\s\"'`@/]{0,100}@)?(?:(?:%b)(?=[:/\"'`?\s]|\Z)|(?=/\w))" % _HOSTS
)
_AT = rb"['\"](?:%b)['\"]" % _HOSTS
_CALLS = tuple(
    (name, hint, re.compile(pattern, re.MULTILINE))
    for name, hint, pattern in (
        (
            "MySQL",
            b"mysql",
            rb"['\"`]\w{1,40}:[^@\s'\"`]{0,60}@(?:tcp\((?:%b)(?::\d+)?\))?/\w" % _HOSTS,
        ),
        (
            "PostgreSQL",
            b"host=",
            rb"(?<![:\w])host=(?:%b)\b[^'\"`\n]{0,100}\b(?:dbname|user)=" % _HOSTS,
        ),
        ("Ollama", b"ollama", rb"^[ \t]*(?:\w+ ?= ?)?ollama\.(?:chat|generate|embed)"),
        ("Ollama", b"Ollama", rb"\b(?:Chat)?Ollama(?:LLM|Embeddings)?\((?![^)]{0,200}base_url)"),
        ("Redis", b"6379", rb"\([ ]?%b[ ]?,[ ]?6379[ ]?\)" % _AT),
        ("Redis", b"Redis(", rb"\bRedis\((?:\)|[^)\n]{0,80}?host[ ]?[=:][ ]?%b)" % _AT),
        ("MySQL", b"mysqli", rb"(?:mysqli_connect|new mysqli)\([ ]?%b" % _AT),
        ("MySQL", b"mysql:host=", rb"mysql:host=(?:%b)\b" % _HOSTS),
        ("PostgreSQL", b"pgsql:host=", rb"pgsql:host=(?:%b)\b" % _HOSTS),
        ("PostgreSQL", b"psycopg", rb"psycopg2?\.connect\([^)\n]{0,120}host[ ]?=[ ]?%b" % _AT),
        ("MySQL", b"pymysql", rb"pymysql\.connect\([^)\n]{0,120}host[ ]?=[ ]?%b" % _AT),
        ("MongoDB", b"MongoClient(", rb"MongoClient\([ ]?(?:\)|%b)" % _AT),
    )
)
_CALL_MARKS = marks(hint for _, hint, _ in _CALLS)
_FALLBACK = re.compile(
    rb"([A-Z][A-Z0-9_]{2,80})"
    rb"(?:['\"]?[ ]?\)?\]?[ ]?(?:,|\|\||\?\?|or\b)[ ]?(?:default[ ]?=[ ]?)?['\"`]?|:-?(?:jdbc:)?)\Z"
)
_HOST_OF = tuple((word.encode(), name) for word, name in _TABLE["hosts"]["variables"].items())
_HOST_NAME = rb"([A-Z0-9_]{0,40}(?:%b)[A-Z0-9_]{0,20}HOST[A-Z]{0,20})" % b"|".join(
    word for word, _ in _HOST_OF
)
_HOST_VARIABLE = re.compile(
    rb"(?:(?:[gG]etenv|environ\.get|env(?:\.str)?|config)"
    rb"\([ ]?['\"]%b['\"][ ]?,[ ]?(?:default[ ]?=[ ]?)?"
    rb"|process\.env\.%b[ ]?(?:\|\||\?\?)[ ]?)%b" % (_HOST_NAME, _HOST_NAME, _AT)
)
_CHOSEN = re.compile(
    rb"(?:DB|DATABASE)_(?:CONNECTION|CLIENT|DRIVER|DIALECT|TYPE|ENGINE)"
    rb"(?:['\"][ ]?,[ ]?['\"](\w[\w-]{1,20})['\"]|[ ]?(?:\|\||\?\?)[ ]?['\"](\w[\w-]{1,20})['\"])"
)
_PORTS = re.compile(
    rb"https?://(?:%b|host\.docker\.internal|[a-z]{2,20}):(%b)\b"
    % (_HOSTS, "|".join(_TABLE["ports"]).encode())
)
_WORDPRESS = "wp-includes/version.php"


def _services(
    folder: Folder, sources: Collection[Source], known: Collection[str], told: set[str]
) -> Iterator[Risk]:
    """Yields services that the app looks for on machines that are not here, each once.

    Those that are `told` already are left out, and it grows.
    """
    if folder.has(_WORDPRESS) and not folder.has("wp-content/db.php"):
        yield _service("MySQL", _WORDPRESS, "")
        told.add("MySQL")
    for path, service, variable in _of_folder(folder):
        if service not in told and variable not in known:
            told.add(service)
            yield _service(service, path, variable)
    for path, text in clients.of_env_files(folder):
        for service, _ in _addresses(text):
            name = next(
                (it for it in variables.SET.findall(text) if _is_at(it, service, text)), b""
            )
            is_json = path.endswith(".json")
            if service not in told and (is_json or (name and _is_read(name, sources))):
                told.add(service)
                yield _service(service, path, name.decode())
    variants = _VARIANTS
    for path, text in sources:
        found = [*_named(text)]
        if found and variants and path.endswith(".py") and _VARIANT.search(text):
            variants -= 1
            found = [*_named(_without_variants(text, sources))]
        for name, variable in found:
            if name in told or variable in known:
                continue
            told.add(name)
            if not _is_switched(name, sources):
                yield _service(name, path, variable)


def _of_folder(folder: Folder) -> Iterator[clients.Sought]:
    for found in (
        *(clients.of_packages, clients.of_rails, clients.of_symfony, clients.of_sequelize),
    ):
        yield from found(folder)


def _is_at(variable: bytes, service: str, text: bytes) -> bool:
    """Whether a .env file sets a variable to the address of a service beside the app."""
    line = re.search(rb"^[ \t]*(?:export[ \t]+)?%b[ \t]*=[^\n]*" % variable, text, re.MULTILINE)
    return line is not None and any(name == service for name, _ in _addresses(line[0]))


def _is_read(variable: bytes, sources: Collection[Source]) -> bool:
    """Whether a source names the variable, or what reads it may be a framework's own."""
    names = any(variable in text for _, text in sources)
    return names or variable == b"DATABASE_URL"


def _named(text: bytes) -> Iterator[tuple[str, str]]:
    """Yields services on machines that are not here, each with the variable that names another."""
    chosen = _CHOSEN.search(text) if b"connection" in text else None
    if chosen is not None:  # of several databases, the one by default
        service = clients.DATABASES.get((chosen[1] or chosen[2]).decode(), "")
        names = (n for it in _HOST_VARIABLE.findall(text) for n in it if n and b"REDIS" not in n)
        if service:
            yield from ((service, name.decode()) for name in names)
        return
    if b"://" in text:
        yield from _addresses(text)
        yield from ((_TABLE["ports"][port.decode()], "") for port in _PORTS.findall(text))
    for names in _HOST_VARIABLE.findall(text) if b"HOST" in text else ():
        variable = names[0] or names[1]
        yield next(name for word, name in _HOST_OF if word in variable), variable.decode()
    if b"(" in text and any(mark in text for mark in _CALL_MARKS):
        yield from ((name, "") for name, hint, call in _CALLS if hint in text and call.search(text))


# Classes of settings, of which an app takes one.
_VARIANTS = 4  # files with such classes, …
_CLASSES = 8  # … and classes in each
_VARIANT = re.compile(
    rb"^class (\w{0,60}(?:Prod|Stag|Docker|Heroku|Test|Dev|Local)\w{0,60})\b[^\n]*\n"
    rb"((?:[ \t][^\n]*\n|\n)*)",
    re.MULTILINE,
)


def _without_variants(text: bytes, sources: Iterable[Source]) -> bytes:
    """Returns a source without classes of settings that no default chooses."""
    whole = b"\n".join(other for path, other in sources if path.endswith(".py"))
    return _VARIANT.sub(lambda it: it[0] if _is_chosen(it[1], whole) else b"", text, _CLASSES)


def _is_chosen(name: bytes, whole: bytes) -> bool:
    """Whether a class of settings is used by its name, or by a key that is a default."""
    keys = re.findall(rb"['\"](\w{1,40})['\"][ ]?:[ ]?(?:\w+\.)?%b\b" % name, whole)
    used = rb"from_object\([^)\n]{0,80}\b%b\b|=[ ]?(?:\w+\.)?%b\(\)" % (name, name)
    either = b"|".join(keys)
    default = rb"(?:,|\bor\b|=)[ ]?['\"](?:%b)['\"][ ]?\)" % either if keys else used
    return b"default" in keys or any(re.search(pattern, whole) for pattern in (used, default))


_OFF = (
    rb"['\"]?[ ]?(?::[ ]?bool[ ]?)?(?:=[ ]?False|\)|\]|={2,3}|,[ ]?(?:default[ ]?=[ ]?)?"
    rb"(?:False|0|['\"](?:false|0|no|off)?['\"]))"
)
_SWITCHES = {
    name: re.compile(
        rb"(?i)\b(?:(?:use|enable|with)_?(?:%b)|(?:%b)_?enabled)\b" % (words, words) + _OFF
    )
    for name, words in ((name, row.encode()) for name, row in _TABLE["switches"].items())
}


def _is_switched(name: str, sources: Iterable[Source]) -> bool:
    """Whether the app looks for the service only where a variable says so."""
    switch = _SWITCHES.get(name)
    return switch is not None and any(switch.search(text) for _, text in sources)


def _beside(folder: Folder, sources: Collection[Source], known: Collection[str]) -> Iterator[Risk]:
    """Yields the services whose addresses a compose file gives the app, which insists on them."""
    file, addresses = hosts.addresses_beside(folder)
    told = {*known, *variables.optional(sources)} if addresses else ()
    names = tuple(
        name
        for name in addresses
        if name not in told and any(name.encode() in text for _, text in sources)
    )[:_NAMED_LIMIT]
    if names:
        services = ", ".join(dict.fromkeys(addresses[name] for name in names))
        yield risk_of("compose", file, names, services=services)


def _addresses(text: bytes) -> Iterator[tuple[str, str]]:
    """Yields services at addresses of this machine, with the variable that replaces each, or ""."""
    is_settings = b"BaseSettings" in text and b"env_prefix" not in text
    at = text.find(b"://")
    while at >= 0:
        before = text[max(text.rfind(b"\n", 0, at) + 1, at - _LINE) : at]
        scheme = _SCHEME.search(before[-_WORD:])
        if scheme is not None and _HOST.match(text, at) and before.lstrip()[:1] not in _COMMENTS:
            line = before.removesuffix(scheme[0])
            variable = _FALLBACK.search(line) or (_DEFAULT.search(line) if is_settings else None)
            variable = variable or _PROPERTY.search(line)
            otherwise = "DATABASE_URL" if b"dj_database_url.config(" in text else ""
            named = variable[1].decode().upper() if variable else otherwise
            named = named.replace(".", "_").replace("-", "")  # as Spring binds properties
            yield _SERVICES[scheme[1].decode()], named
        at = text.find(b"://", at + 3)


_PROPERTY = re.compile(rb"^[ \t]*(spring\.[\w.-]{3,60})[ ]?=[ ]?(?:jdbc:)?\Z")
_DEFAULT = re.compile(rb"^    (\w{2,60})[ ]?:[^\n=]{1,60}=[^\n]{0,60}['\"]\Z")
_LINE = 300  # bytes of a line that are looked at
_WORD = 40
_COMMENTS = (b"#", b"/", b"*")


def _service(name: str, path: str, variable: str) -> Risk:
    how = f"in settings.runEnvs.{variable}" if variable else "by a variable that the app reads"
    stops = Stops.REQUESTS if name in _TABLE["ports"].values() else None
    return risk_of("service", path, (variable,) if variable else (), stops, service=name, how=how)


def _sought(sources: Collection[Source], known: Collection[str], told: set[str]) -> Iterator[Risk]:
    """Yields the services that clients look for beside the app, except those already `told`."""
    for it in clients.sought(sources):
        if it.service not in told and it.variable not in known:
            told.add(it.service)
            yield _service(it.service, it.path, it.variable)


def _handed(sources: Collection[Source], known: Collection[str]) -> Iterator[Risk]:
    """Yields the variables that clients are given, and nothing sets."""
    found: dict[Stops, dict[str, str]] = {}
    empty: dict[Stops, dict[str, str]] = {}
    for it in clients.handed(sources):
        stops = Stops.START if it.connects else Stops.REQUESTS
        (empty if it.is_empty else found).setdefault(stops, {}).setdefault(it.variable, it.path)
    yield from variables.unset(empty, (), known)
    named = (name for names in empty.values() for name in names)
    yield from variables.unset(found, sources, {*known, *named})


def _read_by_packages(
    folder: Folder, sources: Collection[Source], known: Collection[str]
) -> Iterator[Risk]:
    """Yields the variables that packages and SvelteKit's build read, and nothing sets."""
    for it in clients.read_by_packages(folder, sources):
        names = tuple(name for name in it.variables if name not in known)
        if names:
            stops = Stops.BUILD if it.builds else Stops.REQUESTS
            yield risk_of("package_reads", it.path, names, stops, package=it.package)
    built: dict[str, str] = {}
    for path, name in clients.of_sveltekit(sources):
        built.setdefault(name, path)
    yield from variables.unset({Stops.BUILD: built} if built else {}, (), known)


def _needed(
    needed: Collection[tuple[str, str]], sources: Collection[Source], known: Collection[str]
) -> Iterator[Risk]:
    """Yields the variables that another host would ask its deployer for, if the app reads them."""
    told = {*known, *(variables.optional(sources) if needed else ())}
    for name, file in needed:
        if name not in told and any(name.encode() in text for _, text in sources):
            yield risk_of("host_asks", file, (name,))


# Programs, processes, hosts

_RUNNERS = (b"subprocess", b"child_process", b"os.system", b"shell_exec", b"os/exec", b"::Command")
_CALLED = re.compile(
    rb"(?:subprocess\.\w{2,12}|Popen|os\.system|spawn(?:Sync)?|exec(?:Sync|File|FileSync)?|shell_exec"
    rb"|exec\.Command|Command::new)\([ \n]{0,20}\[?[ ]?f?['\"`](%b)(?=[ '\"`])"
    % "|".join(_TABLE["commands"]["names"].split()).encode()
)


def _commands(sources: Iterable[Source], toolbox: Toolbox) -> Iterator[Risk]:
    told: set[str] = set()
    for path, text in sources:
        runs = b"(" in text and any(it in text for it in _RUNNERS)
        called = _CALLED.findall(text) if runs else ()
        for name in dict.fromkeys(called):
            program = name.decode()
            if re.search(rb"which\(['\"]%b['\"]" % name, text):  # it does without it
                continue
            if program not in told and program not in toolbox.programs:
                told.add(program)
                yield risk_of("program", path, package=path, program=program)


_OPENED = re.compile(
    rb"^[^\s#][^\n#]{0,120}?\b(?:joblib\.load|torch\.load|load_model|read_(?:csv|excel|parquet|json)|open)"
    rb"\([ ]?['\"]((?:\./)?[\w][\w./-]{0,100}\.\w{2,8})['\"](?![ ]?,[ ]?['\"][^'\"\n]{0,2}[wax+])",
    re.MULTILINE,
)


def _files(folder: Folder, sources: Iterable[Source]) -> Iterator[Risk]:
    """Yields a file that the app reads as it starts, and the upload has not."""
    for path, text in sources:
        for written in _OPENED.findall(text)[:_NAMED_LIMIT]:
            name = written.decode().removeprefix("./")
            is_there = any(it == name or it.endswith(f"/{name}") for it in folder.names())
            if not is_there and text.count(written) == 1:
                yield risk_of("file", path, file=name)
                return


def _libraries(folder: Folder, toolbox: Toolbox) -> Iterator[Risk]:
    """Yields libraries of the system that crates of Rust link, and are not here."""
    listed = folder.source("Cargo.toml")
    for crate, feature, program, instead in _TABLE["rust"]["libraries"] if listed else ():
        row = re.search(rb"^%b[ ]?=[^\n]{0,300}" % crate.encode(), listed, re.MULTILINE)
        is_linked = row is not None and feature.encode() in row[0] and b"bundled" not in listed
        if is_linked and program not in toolbox.programs:
            yield risk_of("linked", "Cargo.toml", crate=crate, instead=instead)


_SECRETS_READ = re.compile(
    rb"\bst\.secrets(?:\[[ ]?['\"](\w{1,60})['\"][ ]?\]|\.(?!get\b|to_dict\b)(\w{1,60}))"
    rb"([\[.](?!strip\b))?"
)


def _secrets_file(
    folder: Folder, sources: Iterable[Source], known: Collection[str], *, is_made: bool
) -> Iterator[Risk]:
    """Yields what Streamlit reads of a file of secrets which the upload has not.

    One that `is_made` has the app's variables, but no tables of values.
    """
    found: dict[str, str] = {}
    for path, text in () if folder.has(SECRETS_FILE) else sources:
        if b"st.secrets" not in text or b"in st.secrets" in text:
            continue
        for match in _SECRETS_READ.finditer(text):
            name = (match[1] or match[2]).decode()
            if match[3] or not is_made:
                yield risk_of("secrets_file", path, secret=name, file=SECRETS_FILE)
                return
            found.setdefault(name, path)
    yield from variables.unset({Stops.REQUESTS: found} if found else {}, (), known)


_PROCESS = re.compile(r"^([A-Za-z0-9_-]{1,40}):[ \t]*(\S.*)$", re.MULTILINE)


def _left_out(folder: Folder) -> Iterator[Risk]:
    """Yields processes of a Procfile, or of a compose file, that nobody starts."""
    file, process = hosts.process_beside(folder)
    if process:
        yield _process(file, f"{file}'s {process}")
    file, process = hosts.other_process(folder)
    if process:
        yield _process(file, f"{file}'s {process}")
    if not folder.has("Procfile"):
        return
    text = folder.plain("Procfile")
    others = [it for it in _PROCESS.findall(text) if it[0] not in ("web", "release")]
    if others:
        name, line = others[0]
        yield _process(folder.path("Procfile"), f"The Procfile's {name}", quoted(line.strip()))


def _process(path: str, process: str, line: str = "") -> Risk:
    command = f"settings.runCommand {line!r}" if line else "its command in settings.runCommand"
    return risk_of("process", path, process=process, command=command)


_MCP = re.compile(rb"\bFastMCP\(((?:[^()\n]|\([^()\n]{0,200}\)|\n){0,600})\)")
_ANY_HOST = "transport_security"  # set by a start that planning made
_LOCAL = re.compile(rb"from mcp\.server\b")


def _refusing(sources: Iterable[Source]) -> Iterator[Risk]:
    """Yields a server that refuses the names of all machines but its own."""
    for path, text in sources:
        match = _MCP.search(text) if b"FastMCP(" in text and _LOCAL.search(text) else None
        if match is not None and not re.search(rb"\bhost[ ]?=|transport_security|\*\*", match[1]):
            yield risk_of("mcp_host", path)
            return


_EXTENSIONS: dict[bytes, str] = {
    code.encode(): name for code, name in _TABLE["php"]["extensions"].items()
}


def _extensions(sources: Iterable[Source], toolbox: Toolbox) -> Iterator[Risk]:
    """Yields PHP's extensions that sources use, where it is known which there are."""
    has = {program for program in toolbox.programs if program.startswith("ext-")}
    told = set[str]()
    for path, text in sources if has else ():
        for code, name in _EXTENSIONS.items() if path.endswith(".php") else ():
            if code in text and f"ext-{name}" not in has and name not in told:
                told.add(name)
                yield risk_of("extension", path, extension=name)
