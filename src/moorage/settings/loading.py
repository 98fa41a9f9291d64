"""Reads the settings once, at the start.

They come from a TOML file, then from `MOORAGE_…` environment variables, then from the command line.
A setting has one name in all of them; in the file it stands in the table of its room. Unknown keys
are refused with their path.
"""

import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import msgspec

from moorage.errors import InvalidField
from moorage.settings.apps import TABLE
from moorage.settings.settings import Settings

ENV_PREFIX = "MOORAGE_"
_NOT_SETTINGS = re.compile(
    r"GATEWAY|PRIVATE_KEY|BOUND_SIGNATURES|RPC_URL_\w+|BUDGET_USD|MAX_USD_PER_CALL|STATE_DIR|"
    r"CONFIG|CRASH_AT"
)
"""Variables of the client commands, and the failpoint at which crash tests have a gateway end."""


def load_settings(
    *, file: Path | None, environ: Mapping[str, str] = os.environ, **given: Any
) -> Settings:
    """The settings from file, environment and `given`, later ones winning; None is not given.

    `data_dir` is made absolute.

    Raises InvalidField naming the wrong one.
    """
    values = {} if file is None else _from_file(file)
    values.update(_from_environment(environ))
    values.update({key: value for key, value in given.items() if value is not None})
    try:
        settings = msgspec.convert(values, Settings)
    except msgspec.ValidationError as error:
        raise InvalidField("settings", str(error)) from error
    return msgspec.structs.replace(settings, data_dir=str(Path(settings.data_dir).absolute()))


def origins(*, file: Path | None, environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Returns where each setting that is not left at its default has its value from.

    It is the file's path, or the name of a variable. Raises InvalidField.
    """
    written = {} if file is None else dict.fromkeys(_from_file(file), str(file))
    variables = {name: f"{ENV_PREFIX}{name.upper()}" for name in _from_environment(environ)}
    return written | variables


def tables() -> dict[str, str]:
    """Maps each setting to its table in the file; "" is the top, before all tables."""
    return {field.name: _table(field) for field in msgspec.structs.fields(Settings)}


def _table(field: msgspec.structs.FieldInfo) -> str:
    metas = (item for item in get_args(field.type) if isinstance(item, msgspec.Meta))
    return next(str(meta.extra[TABLE]) for meta in metas if meta.extra)


def _from_file(file: Path) -> dict[str, Any]:
    try:
        written = tomllib.loads(file.read_text())
    except OSError as error:
        raise InvalidField(str(file), error.strerror or str(error)) from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InvalidField(str(file), str(error)) from error
    places = tables()
    values: dict[str, Any] = {}
    for key, value in written.items():
        if key in places.values() and key:
            _add_table(values, key, value, places)
        else:
            values[_placed(key, "", places)] = value
    return values


def _add_table(
    values: dict[str, Any], table: str, written: object, places: Mapping[str, str]
) -> None:
    if not isinstance(written, dict):
        raise InvalidField(table, "must be a table")
    for key, value in written.items():
        values[_placed(key, table, places)] = value


def _placed(key: str, table: str, places: Mapping[str, str]) -> str:
    """Returns the setting's name; raises InvalidField for one that stands in another table."""
    where = places.get(key)
    path = f"{table}.{key}" if table else key
    if where is None:
        raise InvalidField(path, "is not a setting; see docs/operate/configure.md")
    if where != table:
        right = f"in the table [{where}]" if where else "at the top, before all tables"
        raise InvalidField(path, f"stands {right}")
    return key


def _from_environment(environ: Mapping[str, str]) -> dict[str, Any]:
    """What `MOORAGE_…` variables set; lists are comma-separated, tables are JSON."""
    fields = {field.name: field for field in msgspec.structs.fields(Settings)}
    values: dict[str, Any] = {}
    for variable, text in environ.items():
        rest = variable.removeprefix(ENV_PREFIX)
        if rest == variable or _NOT_SETTINGS.fullmatch(rest):
            continue
        field = fields.get(rest.lower())
        if field is None:
            raise InvalidField(variable, "is not a setting; see docs/operate/configure.md")
        values[field.name] = _parsed(variable, text, default=field.default)
    return values


def _parsed(variable: str, text: str, *, default: object) -> object:
    if isinstance(default, str):
        return text
    if isinstance(default, tuple):
        return tuple(part.strip() for part in text.split(",") if part.strip())
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError as error:
        raise InvalidField(variable, f"cannot be read: {error}") from error
