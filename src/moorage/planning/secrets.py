"""Finds variables that nobody outside the app has to know: its own secrets, and plain values.

The key that signs an app's sessions is its own: each project gets a random one, unless its deployer
sets it. A level of logging, a duration or a file of SQLite stands in its example of a .env file.
"""

import re
from collections.abc import Iterable
from itertools import islice

from moorage.planning.python.objects import is_aside
from moorage.planning.reading.folder import Folder
from moorage.planning.reading.formats import word_tuple

_NAMES = word_tuple(
    "SECRET_KEY SECRET_KEY_BASE DJANGO_SECRET_KEY DJANGO_SECRET FLASK_SECRET_KEY APP_KEY "
    "APP_SECRET AUTH_SECRET NEXTAUTH_SECRET BETTER_AUTH_SECRET SESSION_SECRET SESSION_SECRET_KEY "
    "SESSION_KEY COOKIE_SECRET COOKIE_PASSWORD JWT_SECRET JWT_SECRET_KEY JWT_ACCESS_SECRET "
    "JWT_REFRESH_SECRET TOKEN_SECRET ACCESS_TOKEN_SECRET REFRESH_TOKEN_SECRET CSRF_SECRET "
    "CHAINLIT_AUTH_SECRET STORAGE_SECRET NICEGUI_STORAGE_SECRET PAYLOAD_SECRET "
    "NUXT_SESSION_PASSWORD SECURITY_SALT SESSION_PASSWORD JWT_KEY APP_KEYS ADMIN_JWT_SECRET "
    "API_TOKEN_SALT TRANSFER_TOKEN_SALT"
)
_EXAMPLES = word_tuple(
    ".env.example .env.local.example .env.sample .env.template .env.dist env.example"
)
_SET = (".env", ".env.production", ".env.local")
_EITHER = b"(" + "|".join(_NAMES).encode() + rb")\b"
_LINE = re.compile(rb"^[ \t]*(?:export[ \t]+)?" + _EITHER + rb"[ \t]*=", re.MULTILINE)
_VALUE = re.compile(rb"^[ \t]*(?:export[ \t]+)?" + _EITHER + rb"[ \t]*=[ \t]*[^\s#]", re.MULTILINE)
_READ = re.compile(
    rb"(?:\b(?:process|Bun)\.env\.|\benviron(?:\.get)?[\[(][ \t]{0,4}['\"]"
    rb"|\b(?:(?:getenv|env|fetch)(?:\.\w{1,20})?[\[(]|config\()[ \t]{0,4}['\"])" + _EITHER
)
_FIELD = re.compile(
    rb"^    (?i:" + _EITHER + rb")[ ]?:[ ]?(?:str|SecretStr)[ ]*$", re.MULTILINE
)  # of pydantic's settings
# One of these is in each name.
_WORDS = (b"SECRET", b"_KEY", b"_SALT", b"COOKIE_PASSWORD", b"SESSION_PASSWORD")
_CODE = (".py", ".js", ".mjs", ".cjs", ".ts", ".mts", ".tsx", ".rb", ".php", ".go")
_CODE_LIMIT = 40  # files of code that are read
_NAMES_LIMIT = 2_000


def own_secrets(folder: Folder, known: Iterable[str] = ()) -> tuple[str, ...]:
    """Returns the variables of such secrets that the app reads and no file of the upload sets.

    Those that are `known` to be needed are among them.
    """
    found = dict.fromkeys(name.encode() for name in known)
    for name in filter(folder.has, _EXAMPLES):
        found.update(dict.fromkeys(_LINE.findall(folder.source(name))))
    names = folder.ending(*_CODE)[:_NAMES_LIMIT]
    code = (it for it in names if "node_modules/" not in it)
    for name in islice((it for it in code if not is_aside(it)), _CODE_LIMIT):
        data = folder.source(name)
        if any(word in data for word in _WORDS):
            found.update(dict.fromkeys(_READ.findall(data)))
        if b"BaseSettings" in data and b"env_prefix" not in data:
            found.update(dict.fromkeys(name.upper() for name in _FIELD.findall(data)))
    for name in filter(folder.has, _SET if found else ()):
        for is_set in _VALUE.findall(folder.source(name)):
            found.pop(is_set, None)
    return tuple(sorted(name.decode() for name in found))


_EXAMPLE = re.compile(
    rb"^[ \t]*(?:export[ \t]+)?([A-Z][A-Z0-9_]{1,80})[ \t]*=[ \t]*(?P<quote>['\"]?)"
    rb"(file:[\w./?=&-]{1,100}|sqlite:[\w./:-]{1,100}|\d{1,9}(?:ms|[smhdw])?|true|false"
    rb"|debug|info|warn|error|cookie|memory|local|fs|sqlite3?|sync"
    rb"|\./[\w/-]{1,60}\.(?:db|sqlite3?))(?P=quote)[ \t]*(?:#[^\n]*)?\r?$",
    re.MULTILINE,
)
_NOT_PLAIN = re.compile(r"PORT\Z|KEY|SECRET|TOKEN|PASS|USER|ID\Z|DEBUG|ENV\Z|PIN|NUMBER|PHONE")


def plain_examples(folder: Folder) -> dict[str, str]:
    """Returns the variables to which an example of a .env file gives a value that is no secret.

    Nor is it an address of anything but a file.
    """
    name = folder.first(*_EXAMPLES)
    found = _EXAMPLE.findall(folder.source(name)) if name else []
    return {
        variable.decode(): value.decode()
        for variable, _, value in found
        if not _NOT_PLAIN.search(variable.decode())
    }
