"""Finds the variables that sources insist on: what they read without a default and end without.

Sources are searched by pattern, line by line of the blocks around a match, and nothing is run.
"""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import NamedTuple

from moorage.planning.clients import bound
from moorage.planning.plan import Risk, Stops, risk_of
from moorage.planning.reading.folder import Folder
from moorage.planning.reading.formats import by_word, marks, table, word_set

_TABLE = table("risks")
_CLIENTS_KEYS = by_word(_TABLE["clients"])
_NAMED_LIMIT = 6  # variables in one risk


class Source(NamedTuple):
    """A file of the app's own that is searched."""

    path: str
    text: bytes


OWN = word_set(
    "PORT HOST HOSTNAME HOME USER PATH PWD LANG TMPDIR TZ NODE_ENV DATA_DIR CI SHELL LOGNAME "
    "APP_ENV RAILS_ENV RACK_ENV"
)
SET = re.compile(rb"^[ \t]*(?:export[ \t]+)?([A-Z][A-Z0-9_]{0,100})[ \t]*=", re.MULTILINE)
_NAME = rb"([A-Z][A-Z0-9_]{2,80})"


class _Read(NamedTuple):
    """How a language reads a variable that must be there: a row of `variables.toml`."""

    hints: tuple[bytes, ...]
    pattern: re.Pattern[bytes]
    stops: Stops | None  # None: by the blocks around it
    is_message: bool  # words of a message, which are names of variables if these are read


def _row(hints: str, pattern: str, stops: str = "", kind: str = "") -> _Read:
    compiled = re.compile(pattern.encode().replace(b"NAME", _NAME), re.MULTILINE)
    words = tuple(hints.encode().split(b"|"))
    return _Read(words, compiled, Stops(stops) if stops else None, kind == "message")


_READS_OF = {
    ending: [_row(*row) for row in rows]
    for endings, rows in table("variables").items()
    for ending in endings.split()
}
# One of these is in each source of the ending that has any of its hints.
_MARKS_OF = {
    ending: marks(b"nv" if b"nv" in hint else hint for it in reads for hint in it.hints)
    for ending, reads in _READS_OF.items()
}
_JS = (".js", ".mjs", ".cjs", ".ts", ".mts", ".jsx", ".tsx")
_OTHER = rb"(?!\w*(?:key|url|token|vertexai|credentials))\w+[ ]?=[ ]?[^=(),\n]{1,80}"
# Clients of others' services that are made as the module is read, and end without their key.
_CLIENT = re.compile(
    rb"^(?:(?:export )?(?:const |let )?\w+(?:: ?\w+)?[ ]?=[ ]?(?:new )?|[\w.]{1,60}\([\w, ]{0,60})"
    rb"(?:\w+\.)?(?:Async)?(%b)\("
    rb"(?:\s{0,40}+(?:%b,\s{0,40}+){0,6}(?:%b)?\s{0,40}+\)"
    rb"|\s{0,40}+\{?\s{0,40}+(?:%b,\s{0,40}+){0,6}(?:\w*(?:[kK]ey|[tT]oken)\s{0,40}+[=:]\s{0,40}+)?"
    rb"(?:os\.(?:getenv\(|environ\.get\()\s{0,40}+['\"]%b['\"]\s{0,40}+\)|process\.env\.%b)\s{0,40}+[,)}])"
    % ("|".join(_CLIENTS_KEYS).encode(), *(_OTHER,) * 3, _NAME, _NAME),
    re.MULTILINE,
)
_CLIENT_HINTS = marks(f"{name}(".encode() for name in _CLIENTS_KEYS)
_OF_PYTHON = rb"os\.(?:getenv\(|environ\.get\()\s{0,40}['\"]%b['\"]\s{0,40}\)" % _NAME
# Clients and fields that are given a key, and fail without it once they are asked.
_KEYED = re.compile(
    rb"^[ \t]*+(?:\w+[ ]?=[ ]?)?(?P<what>%b)[ ]?=[ ]?(?:%b|(?P<word>[A-Za-z_]\w{1,60}))"
    rb"[ ]?(?=[,)\n#]|\Z)"
    % (
        b"|".join(re.escape(it).encode() for it in _TABLE["keyed"]["python"].split()),
        _OF_PYTHON,
    ),
    re.MULTILINE,
)
_KEYED_HINTS = marks(it.encode() for it in _TABLE["keyed"]["python"].split())
_GIVEN = rb"(?:%b|([A-Za-z_]\w{1,60}))" % _OF_PYTHON
_FIRST = re.compile(
    rb"^[ \t]*+(?:(?:[\w.]{1,60}[ ]?=[ ]?|return )(?:await )?(?:\w{1,40}\.)?(?:%b)\("
    rb"\s{0,40}+%b[ ]?(?:,\s{0,40}+%b[ ]?)?[,)]"
    rb"|\w+\.config\[['\"]SQLALCHEMY_DATABASE_URI['\"]\][ ]?=[ ]?%b[ \t]*+(?:#|\r?$))"
    % (
        b"|".join(re.escape(it).encode() for it in _TABLE["keyed"]["first"].split()),
        *(_GIVEN,) * 3,
    ),
    re.MULTILINE,
)
_FIRST_HINTS = marks(
    (b"SQLALCHEMY_DATABASE_URI", *(f"{it}(".encode() for it in _TABLE["keyed"]["first"].split()))
)
_BOUND_OF_PYTHON = re.compile(
    rb"^[ \t]*([A-Za-z_]\w{1,60})(?:[ ]?:[ ]?\w+)?[ ]?=[ ]?%b[ \t]*(?=#|\r?$)" % _OF_PYTHON, re.M
)
# Conditions that end the program, or what answers a request, where a variable is not set.
_GUARD_OF_PYTHON = re.compile(
    rb"^([ \t]*+)if[ ](not[ ][^\n]{1,200}):[ \t]*+\n"
    rb"(?:\1[ \t]++(?!raise\b|return\b|sys\.)[^\n]*\n){0,3}?"
    rb"\1[ \t]++(?:raise\b|(?:sys\.)?exit\(|quit\()",
    re.MULTILINE,
)
_GUARD_OF_JS = re.compile(
    rb"\bif\s?\(\s?(![^(){}]{1,300}?)\)\s{0,40}(?:\{[^{}]{0,300}?)?"
    rb"\b(?:throw\b|process\.exit\((?!0))"
)
# Lists of variables that a loop asks for, and ends.
_LISTED = re.compile(
    rb"\b\w{0,40}(?:[rR]equired|REQUIRED)\w{0,40}(?:[ ]?:[^=\n]{1,30})?[ ]?=[ ]?[\[(]"
    rb"((?:\s{0,40}['\"][A-Z][A-Z0-9_]{2,80}['\"],?){1,40})\s{0,40}[\])]"
)
_LOOPS = re.compile(
    rb"(?:process\.env\[\w{1,40}\]|(?:getenv|environ\.get)\(\w{1,40}\)|not in os\.environ)"
    rb"[\s\S]{0,300}?\b(?:throw\b|raise\b|process\.exit\(|sys\.exit\()"
)
_ALL = re.compile(rb"not[ ]all\([ ]?[\[(]([^\])]{1,300})[\])][ ]?\)")
_SETTINGS = re.compile(
    rb"^class (?!Test)\w+\((?:BaseSettings|Base\w{1,40}Settings)\):\n"
    rb"((?:(?:[ \t][^\n]*)?\n){1,200})",
    re.MULTILINE,
)
_PREFIX = re.compile(rb"\benv_prefix[ ]?=[ ]?['\"](\w{1,40})['\"]")
_DOCSTRING = re.compile(rb'"""[^"]{0,2000}"""')
_FIELD = re.compile(
    rb"^    ([A-Za-z][A-Za-z0-9_]{1,60})[ ]?:[ ]?"
    rb"(?![^\n]*(?:=(?![ ]?Field\([ ]?\.\.\.[ ]?[,)])|None|ClassVar|alias|env=|[\[(]\s*$))",
    re.M,
)


_ENV_FILES = (".env", ".env.production", ".env.local", ".env.production.local")


def of_env_files(folder: Folder) -> set[str]:
    """Returns the variables that the upload's own .env files set."""
    names: set[str] = set()
    for file in (*_ENV_FILES, "prisma/.env"):
        if folder.has(file):
            data = folder.source(file)
            names |= {name.decode() for name in SET.findall(data)}
    return names


def insisted(sources: Collection[Source], known: Collection[str]) -> Iterator[Risk]:
    """Yields one risk for each stage that variables stop."""
    found: dict[Stops, dict[str, str]] = {}
    for path, text in sources:
        for stops, name in _read(path, text):
            found.setdefault(stops, {}).setdefault(name, path)
    yield from unset(found, sources, known)


def unset(
    found: Mapping[Stops, Mapping[str, str]],
    sources: Collection[Source],
    known: Collection[str],
) -> Iterator[Risk]:
    """Yields a risk for each stage; `found` has by stage the files that insist, by variable."""
    if not found:
        return
    told = {*known, *optional(sources)}
    for stops in Stops:
        missing = {n: p for n, p in found.get(stops, {}).items() if n not in told}
        if not missing:
            continue
        told |= missing.keys()
        names = (*missing,)[:_NAMED_LIMIT]
        yield risk_of("variables", missing[names[0]], names, stops)


# One search for all names: an upload may insist on thousands.
_OPTIONAL = re.compile(
    b"|".join(
        pattern.replace(b"NAME", _NAME)
        for pattern in (
            rb"(?:environ\.(?:get|setdefault)|getenv)\([ ]?['\"]NAME['\"][ ]?(?:,|\)[ ]?or\b)",
            rb"\b(?:if|and|or)[ ](?:os\.)?(?:environ\.get|getenv)\([ ]?['\"]NAME['\"][ ]?\)",
            rb"environ\[[ ]?['\"]NAME['\"][ ]?\][ \t]*=[^=]",
            rb"['\"]NAME['\"] in os\.environ",
            rb"\bNAME[ ]?=[ ]?\([ ]?(?:bool|str|int|float|list|dict)[ ]?,",  # django-environ's
            rb"(?<!!)process\.env\.NAME[ \t]*\|\|",
            rb"process\.env\.NAME[ \t]*(?:\?(?!\.)|&&)",
            rb"\bif[ ]?\([ ]?process\.env\.NAME[ ]?\)",
        )
    )
)
_READ = re.compile(
    rb"(?:process\.env(?:\.|\[['\"])|[Gg]etenv\([ ]?['\"]|environ(?:\.get\(|\[)[ ]?['\"])%b\b"
    % _NAME
)
_UNPACKED = re.compile(rb"\{([^{}]{0,1000})\}\s{0,9}=\s{0,9}process\.env\b")
_WORDS = re.compile(rb"\b%b\b" % _NAME)
_HINTS = (b"environ", b"getenv", b"process.env")  # each has "env" in it
_ELSEWHERE = re.compile(
    rb"(?:process\.env\.|(?:environ\.get|getenv)\([ ]?['\"])"
    rb"([A-Z0-9_]{0,60}(?:DB|DIR|DIRECTORY|FILE|FOLDER|LOCATION|PATH|STORAGE))"
    rb"(?:[ ]?(?:\|\||\?\?)|['\"][ ]?,)[ ]?['\"`]"
    rb"(/(?:config|data\w{1,20}|etc|mnt|srv|storage|var/(?!run))/?[\w./-]{0,100})['\"`]"
)


# A database in a file, in a directory: sqlite:///data/app.db, or "data", "app.db" that are joined.
_DATABASE = re.compile(
    rb"(?:['\"`](?:sqlite[\w+]{0,20}:/{0,3}|file:)?(?:\./)?"
    rb"|['\"]([\w-]{1,60})['\"](?:,|[ ]/)[ ]?['\"])"
    rb"((?:[\w-]{1,60}/){0,6})[\w.-]{1,60}\.(?:db|sqlite3?)(?:\?[\w=&]{0,60})?['\"`]"
)


def elsewhere(sources: Iterable[Source]) -> dict[str, str]:
    """Returns variables of places outside the app's folder by default, each with a name there."""
    searched = (text for _, text in sources if b"env" in text)
    found = (it for text in searched for it in _ELSEWHERE.findall(text))
    places = {name.decode(): path.decode().rstrip("/").rpartition("/")[2] for name, path in found}
    return {name: place for name, place in places.items() if name not in OWN}


def directories_of_databases(sources: Iterable[Source]) -> list[str]:
    """Returns the directories in which the app has databases, relative to where it runs."""
    texts = (text for _, text in sources if b".db" in text or b".sqlite" in text)
    found = {b"/".join(it).strip(b"/") for text in texts for it in _DATABASE.findall(text)}
    return sorted(place.decode() for place in found if place)


def optional(sources: Iterable[Source]) -> set[str]:
    """Returns the variables that some source has a default for, or asks for the presence of."""
    searched = (text for _, text in sources if b"env" in text)
    found = (names for text in searched for names in _OPTIONAL.findall(text))
    return {name.decode() for names in found for name in names if name}


def _are_read(text: bytes) -> set[bytes]:
    """Returns the names of the variables that a source reads in any way."""
    unpacked = b" ".join(_UNPACKED.findall(text))
    return {*_READ.findall(text), *_WORDS.findall(unpacked)}


_NEAR = 4_000  # bytes before a line in which the blocks around it begin …
_LINES = 80  # … and lines
_TRIES = re.compile(rb"try\b")
_RUNS_LATER = re.compile(
    rb"(?:async[ ])?def[ ](?P<def>\w+)|.*\bfunction\b\*?[ ]?(?P<function>\w*)"
    rb"|(?:export[ ])?(?:const|let)[ ](?P<const>\w+)[ ]?=.*=>|.*=>[ ]?\{$"
    rb"|(?:(?:public|private|static|async)[ ])*(?!if|for|while|switch|catch)(?P<method>\w+)"
    rb"\([^()]*\)[^()]*\{$"
)
_AT_START = re.compile(
    rb"(?:main|run|start|startup|on_startup|lifespan|bootstrap|(?:create|make|build)_app(?:lication)?"
    rb"|createApp|buildApp|constructor|__init__|register|(?:init|setup|connect|validate|check|load)\w*)\Z"
)


def _stage(text: bytes, match: re.Match[bytes], *, is_message: bool) -> Stops | None:
    """Returns what a match stops, by the blocks around its line; None within a `try`.

    A message is in a condition that asks for the variable.
    """
    before_it, line = _line(text, match.start())
    begin = match.start() - len(before_it)
    width = _indent(before_it + line)
    is_later = False
    before = text[max(0, begin - _NEAR) : begin].split(b"\n")[-_LINES:] if width else []
    for around in reversed(before):
        if not around.strip() or _indent(around) >= width:
            continue
        width, block = _indent(around), around.strip()
        if _TRIES.match(block) and not is_message:
            return None
        later = _RUNS_LATER.match(block)
        name = next(filter(None, later.groups()), b"") if later else b""
        is_later = is_later or (later is not None and not _AT_START.match(name))
        is_if = block.startswith((b"if ", b"elif ", b"else:")) and b"__name__" not in block
        is_later = is_later or (is_if and not is_message)
    return Stops.REQUESTS if is_later or width else Stops.START


_HASHED = (".py", ".rb")  # where a comment begins with #


def _line(text: bytes, at: int) -> tuple[bytes, bytes]:
    """Returns the line around a place: before it, and from it on."""
    begin = text.rfind(b"\n", max(0, at - _NEAR), at) + 1
    end = text.find(b"\n", at, at + _NEAR)
    return text[begin:at], text[at : end if end >= 0 else at + _NEAR]


def _indent(line: bytes) -> int:
    return len(line) - len(line.lstrip())


def _read(path: str, text: bytes) -> Iterator[tuple[Stops, str]]:
    end = path.rpartition(".")[2]
    is_marked = any(mark in text for mark in _MARKS_OF.get(end, ()))
    for read in _READS_OF[end] if is_marked else ():
        if not any(hint in text for hint in read.hints):
            continue
        names = _are_read(text) if read.is_message else set()
        for match in read.pattern.finditer(text):
            name = match[2]
            if read.is_message and name not in names:
                continue
            if path.endswith(_HASHED) and b"#" in _line(text, match.start())[0]:
                continue
            stops = read.stops or _stage(text, match, is_message=read.is_message)
            if stops is not None:
                yield stops, name.decode()
    calls = b"(" in text  # unlike modules of types and of constants
    if calls and any(hint in text for hint in _CLIENT_HINTS):
        for client, *names in _CLIENT.findall(text):
            own = next(filter(None, names), b"").decode()
            yield Stops.START, own or _CLIENTS_KEYS[client.decode()]
    yield from _guarded(path, text)
    for block in _SETTINGS.findall(text) if calls and b"Settings):" in text else ():
        prefix = _PREFIX.search(block)
        fields = _FIELD.findall(_DOCSTRING.sub(b"", block))
        begins = prefix[1] if prefix else b""
        yield from ((Stops.START, (begins + field).decode().upper()) for field in fields)


def _guarded(path: str, text: bytes) -> Iterator[tuple[Stops, str]]:
    """Yields what a condition or a client asks for by the name that the program gave it."""
    is_python = path.endswith(".py")
    hints = _HINTS[:2] if is_python else _HINTS[2:]
    if not (is_python or path.endswith(_JS)) or not any(hint in text for hint in hints):
        return
    names = _bound_of_python(text) if is_python else bound([(path, text)])
    for match in (_GUARD_OF_PYTHON if is_python else _GUARD_OF_JS).finditer(text):
        condition = match[2] if is_python else match[1]
        asked = [_asked(part, names) for part in _parts(condition, is_python=is_python)]
        is_comment = not is_python and _COMMENTED.search(_line(text, match.start())[0])
        stops = _stage(text, match, is_message=True) if all(asked) and not is_comment else None
        if stops is not None:
            yield from ((stops, name.decode()) for name in asked)
    listed = _LISTED.findall(text) if b"equired" in text or b"REQUIRED" in text else []
    for inside in listed if _LOOPS.search(text) else ():
        yield from ((Stops.START, name.decode()) for name in _WORDS.findall(inside))
    if is_python:
        yield from _given_first(text, names)
    keyed = is_python and any(hint in text for hint in _KEYED_HINTS)
    for match in _KEYED.finditer(text) if keyed else ():
        word = match["word"]
        is_asked = word and re.search(rb"\bif (?:not )?%b\b" % re.escape(word), text)
        name = match[2] or next(iter(names.get(word, ())), b"")
        stops = _stage(text, match, is_message=False)
        if name and not is_asked and stops is not None:
            client = match["what"].rpartition(b"(")[0].rpartition(b".")[2].removeprefix(b"Async")
            fails = client.decode() in _CLIENTS_KEYS
            yield stops if fails else Stops.REQUESTS, name.decode()


def _given_first(text: bytes, names: Mapping[bytes, set[bytes]]) -> Iterator[tuple[Stops, str]]:
    """Yields what clients of databases are given first, and nothing in the source replaces."""
    for match in _FIRST.finditer(text) if any(hint in text for hint in _FIRST_HINTS) else ():
        stops = _stage(text, match, is_message=False)
        read, words = match.groups()[::2], match.groups()[1::2]
        given = {name for name in read if name}
        for word in filter(None, words):
            sets = rb"\bif (?:not )?%b\b|\b%b\b(?: or |[ ]?=[ ]?%b\b)" % ((re.escape(word),) * 3)
            if not re.search(sets, text) and len(names.get(word, ())) == 1:
                given |= names[word]
        if stops is not None:
            yield from ((stops, name.decode()) for name in sorted(given))


def _bound_of_python(text: bytes) -> dict[bytes, set[bytes]]:
    found: dict[bytes, set[bytes]] = {}
    for word, name in _BOUND_OF_PYTHON.findall(text):
        found.setdefault(word, set()).add(name)
    return found


def _parts(condition: bytes, *, is_python: bool) -> list[bytes]:
    """Returns what a condition asks for, each as it is written after its `not`; [] for others."""
    listed = _ALL.fullmatch(condition.strip()) if is_python else None
    if listed is not None:
        return [part.strip() for part in listed[1].split(b",") if part.strip()]
    begin = b"not " if is_python else b"!"
    parts = [part.strip() for part in condition.split(b" or " if is_python else b"||")]
    return [part.removeprefix(begin).strip() if part.startswith(begin) else b"" for part in parts]


_COMMENTED = re.compile(rb"(?<!:)//|\A\s*\*")
_ENV = re.compile(rb"(?:%b|process\.env\.%b)" % (_OF_PYTHON, _NAME))


def _asked(part: bytes, names: Mapping[bytes, set[bytes]]) -> bytes:
    """Returns the variable that a part of a condition asks for, or b""."""
    read = _ENV.fullmatch(part)
    if read is not None:
        return read[1] or read[2]
    found = names.get(part, set())
    return next(iter(found)) if len(found) == 1 else b""
