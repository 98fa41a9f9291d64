"""Finds what the files of an upload hold (credentials, what it writes), in bounded time."""

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import PurePosixPath
from shlex import quote
from typing import NamedTuple

import msgspec

from moorage.archive.project import PAGE_VARIABLES
from moorage.planning import static
from moorage.planning.plan import Plan, in_app
from moorage.planning.reading.folder import SourceTree
from moorage.planning.reading.formats import word_tuple
from moorage.records.deployment import Finding, FindingKind

_MAX_HITS = 200  # places of one form that are looked at in one file


class _Form(NamedTuple):
    """A secret's form: `begins` is looked for, then `pattern` must match there."""

    begins: bytes
    pattern: re.Pattern[bytes]
    what: str


def secret_file(name: str) -> str | None:
    """Returns what a file of this name is known to be, if it is nothing but a secret."""
    lower = name.lower()
    return next((what for pattern, what in _NAMES if pattern.fullmatch(lower)), None)


_NAMES = [
    (re.compile(pattern), what)
    for pattern, what in (
        (r"\.env(rc|(\.(?!(example|sample|template|dist|defaults|schema)\b).+)?)", "variables"),
        (r"id_(rsa|dsa|ecdsa|ed25519)", "a private SSH key"),
        (r"wallets?\.json|keystore\.json|utc--.{8,}", "a wallet"),
        (r".+\.(p12|pfx|jks|keystore|kdbx)", "a store of keys"),
        (r"\.(pypirc|netrc|pgpass|git-credentials)", "credentials"),
    )
]


def secret_text(data: bytes) -> str | None:
    """Returns what a text holds of the known forms of secrets; takes time linear in its length."""
    lower = data.lower()
    for form in _FORMS:
        if _is_in(form, data):
            return form.what
    for form in _WORDS:
        if _is_in(form, lower):
            return form.what
    if all(word in lower for word in _KEYSTORE):
        return "an encrypted wallet"
    return None


def _is_in(form: _Form, data: bytes) -> bool:
    at = data.find(form.begins)
    for _ in range(_MAX_HITS):
        if at < 0:
            return False
        if form.pattern.match(data, at):
            return True
        at = data.find(form.begins, at + 1)
    return False


KEYS = ("a private key", "a wallet's private key", "a wallet's words", "an encrypted wallet")
"""What a file is about that holds it, unless it is a program or a page."""


def _form(begins: str, rest: str, what: str) -> _Form:
    pattern = re.compile(rb"%b%b(?![0-9A-Za-z])" % (re.escape(begins.encode()), rest.encode()))
    return _Form(begins.encode(), pattern, what)


_KEYSTORE = (b'"ciphertext"', b'"kdfparams"', b'"mac"')  # Web3 Secret Storage, version 3

_FORMS = (
    _Form(
        b"-----BEGIN ",
        re.compile(
            rb"-----BEGIN (?:[A-Z0-9]{1,12} ){0,3}PRIVATE KEY(?: BLOCK)?-----"
            rb"[\s\S]{0,200}?[A-Za-z0-9+/]{40}"
        ),
        "a private key",
    ),
    _form("AKIA", "[0-9A-Z]{16}", "an AWS access key"),
    _form("ghp_", "[0-9A-Za-z]{36}", "a GitHub token"),
    _form("gho_", "[0-9A-Za-z]{36}", "a GitHub token"),
    _form("ghs_", "[0-9A-Za-z]{36}", "a GitHub token"),
    _form("github_pat_", "[0-9A-Za-z_]{50,100}", "a GitHub token"),
    _form("glpat-", "[0-9A-Za-z_-]{20,40}", "a GitLab token"),
    _form("sk_live_", "[0-9A-Za-z]{20,200}", "a Stripe key"),
    _form("rk_live_", "[0-9A-Za-z]{20,200}", "a Stripe key"),
    _form("xoxb-", "[0-9A-Za-z-]{20,200}", "a Slack token"),
    _form("xoxp-", "[0-9A-Za-z-]{20,200}", "a Slack token"),
    _form("sk-ant-", "[0-9A-Za-z_-]{40,200}", "an Anthropic key"),
    _form("sk-proj-", "[0-9A-Za-z_-]{40,200}", "an OpenAI key"),
    _form("npm_", "[0-9A-Za-z]{36}", "an npm token"),
    _form("pypi-AgEIcHlwaS5vcmc", "[0-9A-Za-z_-]{50,300}", "a PyPI token"),
    _form("hf_", "[0-9A-Za-z]{34}", "a Hugging Face token"),
    _form("dop_v1_", "[0-9a-f]{64}", "a DigitalOcean token"),
    _form("SG.", r"[0-9A-Za-z_-]{22}\.[0-9A-Za-z_-]{43}", "a SendGrid key"),
)

_WORDS = (
    _form(
        "private",
        r"""[_-]?key["']?\s{0,4}[:=]\s{0,4}["'`]?(?:0x)?[0-9a-f]{64}""",
        "a wallet's private key",
    ),
    _form(
        "mnemonic",
        r"""["']?\s{0,4}[:=]\s{0,4}["'`]?(?:[a-z]{3,8} ){11,23}[a-z]{3,8}""",
        "a wallet's words",
    ),
    _form("_authtoken", r"\s{0,4}=\s{0,4}[0-9a-z_+/=-]{20,200}", "a token of a package registry"),
)
"""These are looked for in lower case."""


_MANIFESTS = ("package.json", "requirements.txt", "pyproject.toml", "Gemfile", "Cargo.toml")
_CODE = word_tuple(".js .mjs .cjs .ts .mts .cts .jsx .tsx .py .php .go .rs .rb .java .kt .prisma")
_ASIDE = re.compile(
    r"(^|/)(scripts?|tests?|__tests__|specs?|e2e|tools?|bin|docs?|examples?|dist|build|\.next)/"
    r"|\.(test|spec|config)\.|(^|/)(gulpfile|setup|conftest)\."
)
"""What builds or tests an app, and does not run in it."""


def is_code(path: str) -> bool:
    """Returns whether the file may say that the app writes files."""
    pure = PurePosixPath(path)
    return (pure.suffix in _CODE and not _ASIDE.search(path)) or pure.name in _MANIFESTS


def names_volume(data: bytes) -> bool:
    """Returns whether code names the directory of a volume."""
    return b"DATA_DIR" in data or _DATA.search(data) is not None


_DATA = re.compile(rb"""["'`/=]/data(?=[/"'`?])""")


def writes(path: str, data: bytes) -> str | None:
    """Returns the library or function with which the file's code keeps something in files."""
    if b":memory:" not in data:
        library = next((name for name, spelled in _LIBRARIES if spelled in data), None)
        if library is not None:
            return library
    if PurePosixPath(path).name in _MANIFESTS or any(word in data for word in _TEMPORARY):
        return None
    call = next((name for name, spelled in _CALLS if spelled in data), None)
    if call is None and path.endswith((".py", ".rb")) and b"open(" in data and _MODE.search(data):
        call = "open("
    return call.strip(".(") if call else None


def _spelled(*names: str) -> tuple[tuple[str, bytes], ...]:
    """Returns names, each with the bytes that stand for it in a file."""
    return tuple((name, name.encode()) for name in names)


_LIBRARIES = _spelled(
    *("better-sqlite3", "node:sqlite", "bun:sqlite", "backends.sqlite3", "aiosqlite", "rusqlite"),
    *("jdbc:sqlite", "jdbc:h2:file", "sqlite3", "sqlite://", 'provider = "sqlite"'),
    *("lowdb", "nedb", "classic-level", "TinyDB", "node-persist", "duckdb"),
)
_CALLS = _spelled(
    *("writeFileSync(", "writeFile(", "createWriteStream(", "appendFileSync(", "appendFile("),
    *("Bun.write(", "Deno.writeTextFile(", "multer(", ".write_text(", ".write_bytes("),
    *("shelve.open(", "file_put_contents(", "move_uploaded_file(", "os.WriteFile(", "os.Create("),
    *("File::create(", "fs::write(", "File.write("),
)
_MODE = re.compile(rb""",\s{0,2}(?:mode=)?["'](?:w|a|x|r\+)b?\+?["']\s{0,2}[,)]""")
_TEMPORARY = (b"/tmp", b"tmpdir", b"tempfile", b"mkdtemp")


_MAX_BYTES = 4 * 1024 * 1024  # read in all, small files first: secrets are short
_MAX_FILE_BYTES = 256 * 1024  # of one
_MAX_TOLD = 10  # secrets
_PLACES_OF_OTHERS = frozenset(
    ("node_modules", ".git", ".venv", "venv", "vendor", "site-packages", "__pycache__")
)
_TEXTS = word_tuple(
    ".html .htm .css .js .mjs .cjs .ts .mts .cts .jsx .tsx .vue .svelte .md .py .php .go .rs .rb"
)
"""Files that are more than a secret, whatever they hold."""

_SECRETS = (FindingKind.CREDENTIAL_FILE, FindingKind.CREDENTIAL_TEXT)


def inspect(tree: SourceTree) -> list[Finding]:
    """Returns every secret that was found, by path, then one place each that writes files."""
    secrets: list[Finding] = []
    code: dict[FindingKind, Finding] = {}
    for path, data in _looked_at(tree):
        found = _secret(path, data)
        if found is not None:
            secrets.append(found)
        for told in _code(path, data):
            code.setdefault(told.kind, told)
    return [*sorted(secrets, key=lambda each: each.path), *code.values()]


def told(found: Iterable[Finding]) -> tuple[Finding, ...]:
    """Returns what of the findings is kept to be told: a few secrets, and all else."""
    secrets = [each for each in found if each.kind in _SECRETS]
    return (*secrets[:_MAX_TOLD], *(each for each in found if each.kind not in _SECRETS))


def unserved(plan: Plan, found: Sequence[Finding]) -> Plan:
    """Returns the plan of a site without the files that are secrets, which it would serve.

    Dotfiles stay, as they are never served, and builds read variables from them.
    """
    paths = [
        each.path
        for each in found
        if each.kind is FindingKind.CREDENTIAL_FILE and not _is_hidden(each.path)
    ]
    if not paths or not static.is_site(plan.start):
        return plan
    removed = f"rm -f -- {' '.join(quote(in_app(path)) for path in paths)}"
    because = f"secrets in the upload are removed, so that the site does not serve them: {paths[0]}"
    if len(paths) > 1:
        because += f" and {len(paths) - 1} more"
    return msgspec.structs.replace(
        plan,
        build=removed if plan.build is None else f"{removed}\n{plan.build}",
        because=(*plan.because, because),
    )


def _looked_at(tree: SourceTree) -> Iterator[tuple[str, bytes]]:
    """Yields paths with the beginning of their files, b"" once enough was read."""
    left = _MAX_BYTES
    own = [path for path in tree.paths if _PLACES_OF_OTHERS.isdisjoint(path.split("/"))]
    for path in sorted(own, key=tree.size):
        size = min(tree.size(path), _MAX_FILE_BYTES)
        data = tree.read(path, limit=size) if 0 < size <= left else b""
        left -= len(data)
        yield path, data


def _secret(path: str, data: bytes) -> Finding | None:
    pure = PurePosixPath(path)
    what = secret_file(pure.name)
    is_of_pages = what == "variables" and data and PAGE_VARIABLES.fullmatch(data)
    if what is not None and not is_of_pages:
        return Finding(FindingKind.CREDENTIAL_FILE, path, what)
    what = secret_text(data)
    if what is None:
        return None
    is_whole = what in KEYS and pure.suffix.lower() not in _TEXTS
    kind = FindingKind.CREDENTIAL_FILE if is_whole else FindingKind.CREDENTIAL_TEXT
    return Finding(kind, path, what)


def _code(path: str, data: bytes) -> Iterator[Finding]:
    if not is_code(path):
        return
    used = writes(path, data)
    if used is not None:
        yield Finding(FindingKind.WRITES, path, used)
    if names_volume(data):
        yield Finding(FindingKind.NAMES_VOLUME, path, "")


def _is_hidden(path: str) -> bool:
    return any(part.startswith(".") and part != ".well-known" for part in path.split("/"))
