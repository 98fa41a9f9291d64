"""Reads the settings once, at the start, and describes them without secrets.

They come from a TOML file, then from `MOORAGE_…` environment variables, then from the command line.
A setting has one name in all of them; in the file it stands in the table of its room. Unknown keys
are refused with their path.
"""

import hashlib
import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args
from urllib.parse import urlsplit

import msgspec

from moorage.chains.chain import ChainSettings
from moorage.errors import InvalidField
from moorage.settings.settings import FIRST, TABLE, Settings

ENV_PREFIX = "MOORAGE_"
_NOT_SETTINGS = re.compile(
    r"GATEWAY|PRIVATE_KEY|BOUND_SIGNATURES|RPC_URL_\w+|BUDGET_USD|MAX_USD_PER_CALL|STATE_DIR|"
    r"CONFIG|CRASH_AT"
)
"""Variables of the client commands, and the failpoint at which crash tests have a gateway end."""

OF_ONE_GATEWAY = frozenset({"gateway_name", "operator_listen"})
"""Settings that gateways of one configuration file have each for themselves."""

_ADDRESSES = ("listen", "proxy_listen", "operator_listen")
_OF_ITS_PLACE = frozenset({"data_dir", "listen", "proxy_listen", "run_dir", "secrets_key_file"})
"""Settings in which gateways on one database may differ: recorded under the gateway's name."""

_SECRET = frozenset({"database_url", "screening", "build_env", "acme_dns_hook"})
_CHAIN = "chains."
_OWN = ": "


def load_settings(
    *, file: Path | None, environ: Mapping[str, str] = os.environ, **given: Any
) -> Settings:
    """The settings from file, environment and `given`, later ones winning; None is not given.

    A number is given for an address to replace its port alone. `data_dir` is made absolute.

    Raises InvalidField: its message has a line for each key that is unknown, misplaced or
    unreadable, else the first wrong value.
    """
    written, variables = _read(file, environ)
    values = written | variables
    for name, value in given.items():
        if name in _ADDRESSES and isinstance(value, int):
            address = str(values.get(name, _fields()[name].default))
            values[name] = f"{address.rpartition(':')[0]}:{value}"
        elif value is not None:
            values[name] = value
    try:
        settings = msgspec.convert(values, Settings)
    except msgspec.ValidationError as error:
        raise InvalidField("settings", str(error)) from error
    return msgspec.structs.replace(settings, data_dir=str(Path(settings.data_dir).absolute()))


def origins(*, file: Path | None, environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Returns where each setting that is not left at its default has its value from.

    It is the file's path, or the name of a variable. Raises InvalidField.
    """
    written, variables = _read(file, environ)
    named = {name: f"{ENV_PREFIX}{name.upper()}" for name in variables}
    return dict.fromkeys(written, str(file)) | named


def tables() -> dict[str, str]:
    """Maps each setting to its table in the file; "" is the top, before all tables."""
    return {name: _table(field) for name, field in _fields().items()}


def needed_first() -> list[str]:
    """Returns the names of the settings that a first gateway needs."""
    return [name for name, field in _fields().items() if _extra(field)[FIRST]]


def _fields() -> dict[str, msgspec.structs.FieldInfo]:
    """Returns the settings' fields by name, without what the books add."""
    return {each.name: each for each in msgspec.structs.fields(Settings) if _extra(each)}


def _table(field: msgspec.structs.FieldInfo) -> str:
    return str(_extra(field)[TABLE])


def _extra(field: msgspec.structs.FieldInfo) -> dict[str, Any]:
    metas = (item for item in get_args(field.type) if isinstance(item, msgspec.Meta))
    return next((meta.extra for meta in metas if meta.extra), {})


def _read(file: Path | None, environ: Mapping[str, str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns what the file sets, and what variables set. Raises InvalidField with all problems."""
    problems: list[InvalidField] = []
    written = {} if file is None else _from_file(file, problems)
    variables = _from_environment(environ, problems)
    if problems:
        first, *others = problems
        lines = [first.problem, *(each.message for each in others)]
        raise InvalidField(first.field, "\n".join(lines))
    return written, variables


def _from_file(file: Path, problems: list[InvalidField]) -> dict[str, Any]:
    try:
        written = tomllib.loads(file.read_text())
    except OSError as error:
        raise InvalidField(str(file), error.strerror or str(error)) from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InvalidField(str(file), str(error)) from error
    titles = tables()
    values: dict[str, Any] = {}
    for key, value in written.items():
        table = key if key in titles.values() else ""
        if table and not isinstance(value, dict):
            problems.append(InvalidField(table, "must be a table"))
            continue
        settings = value if table else {key: value}
        problems += filter(None, (_misplaced(each, table, titles) for each in settings))
        values |= settings
    return values


def _misplaced(key: str, table: str, titles: Mapping[str, str]) -> InvalidField | None:
    """Returns what is wrong with a setting in this table; None where it belongs there."""
    where = titles.get(key)
    path = f"{table}.{key}" if table else key
    if where is None:
        return InvalidField(path, "is not a setting; see docs/run/configure.md")
    if where != table:
        right = f"in the table [{where}]" if where else "at the top, before all tables"
        return InvalidField(path, f"stands {right}")
    return None


def _from_environment(environ: Mapping[str, str], problems: list[InvalidField]) -> dict[str, Any]:
    """What `MOORAGE_…` variables set; lists are comma-separated, tables are JSON."""
    fields = _fields()
    values: dict[str, Any] = {}
    for variable, text in environ.items():
        rest = variable.removeprefix(ENV_PREFIX)
        if rest == variable or _NOT_SETTINGS.fullmatch(rest):
            continue
        field = fields.get(rest.lower())
        try:
            if field is None:
                raise InvalidField(variable, "is not a setting; see docs/run/configure.md")
            values[field.name] = _parsed(variable, text, default=field.default)
        except InvalidField as error:
            problems.append(error)
    return values


def _parsed(variable: str, text: str, *, default: object) -> object:
    if isinstance(default, str):
        return text
    if isinstance(default, tuple) and not any(isinstance(each, int) for each in default):
        return tuple(part.strip() for part in text.split(",") if part.strip())
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError as error:
        raise InvalidField(variable, f"cannot be read: {error}") from error


def described(settings: Settings) -> dict[str, Any]:
    """Returns each setting's value by name, a chain as `chains.<name>`.

    What is or may hold a secret is given as its fingerprint: the same for the same secret.
    """
    values = {
        name: _hidden(value) if name in _SECRET else value
        for name, value in msgspec.structs.asdict(settings).items()
        if name in _fields() and name != "chains"
    }
    values["acme_directories"] = [
        _hidden(url) if "@" in url else url for url in settings.acme_directories
    ]
    if settings.alert_webhook:
        values["alert_webhook"] = _host(settings.alert_webhook)
    chains = {f"{_CHAIN}{name}": _chain(name, each) for name, each in settings.chains.items()}
    builtins: dict[str, Any] = msgspec.to_builtins(values | chains)
    return builtins


def recorded(settings: Settings) -> dict[str, str]:
    """Returns what a start records of the settings: their values as JSON.

    Of a named gateway, those of its place are called as in "two: port".
    """
    own = f"{settings.gateway_name}{_OWN}" if settings.gateway_name else ""
    return {
        own * (name in _OF_ITS_PLACE) + name: msgspec.json.encode(value, order="sorted").decode()
        for name, value in described(settings).items()
        if name not in OF_ONE_GATEWAY
    }


def of_another(setting: str, settings: Settings) -> bool:
    """Returns whether what is recorded under this name is another gateway's than of `settings`."""
    gateway, own, _ = setting.rpartition(_OWN)
    return bool(own) and gateway != settings.gateway_name


def chain_named(setting: str) -> str | None:
    """Returns the name of the chain that a setting of `described` is; None for any other."""
    return setting.removeprefix(_CHAIN) if setting.startswith(_CHAIN) else None


def _chain(name: str, settings: ChainSettings) -> Mapping[str, object]:
    chain = settings.chain(name)
    return msgspec.structs.asdict(chain) | {"rpc_urls": [_host(url) for url in chain.rpc_urls]}


def _host(url: str) -> str:
    """Returns a URL's host; the rest, of a node's or a chat's, is often its owner's key."""
    return f"{urlsplit(url).netloc.rpartition('@')[2]} {_fingerprint(url)}"


def _hidden(value: Any) -> Any:
    match value:
        case str():
            return _fingerprint(value) if value else ""
        case dict():
            return {key: _hidden(item) for key, item in value.items()}
    return [_hidden(item) for item in value]


def _fingerprint(secret: str) -> str:
    return f"[hidden {hashlib.sha256(secret.encode()).hexdigest()[:8]}]"
