"""Prints the list of settings in docs/run/configure.md, made from their own descriptions.

Usage: .venv/bin/python scripts/settings-table.py
"""

from collections.abc import Iterable
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import msgspec

from moorage.settings import Settings, tables
from moorage.settings.settings import FIRST


def settings_tables() -> str:
    """Every setting, by its table in the file: name, default, meaning."""
    of = tables()
    order = ["", *sorted({*of.values()} - {""})]
    return "\n".join(_titled(table, [name for name in of if of[name] == table]) for table in order)


def _titled(table: str, names: list[str]) -> str:
    hints = get_type_hints(Settings, include_extras=True)
    fields = {field.name: field for field in msgspec.structs.fields(Settings)}
    title = f"`[{table}]`:" if table else "At the top, before the first table:"
    items = (
        f"- **`{name}`** ({default_text(fields[name])}): {meaning(hints[name])}\n" for name in names
    )
    return f"{title}\n\n{''.join(items)}"


def default_text(field: msgspec.structs.FieldInfo) -> str:
    """The default as TOML writes it; an empty one as `""`, `[]` or `{}`."""
    default = field.default
    if default is msgspec.NODEFAULT:
        default = field.default_factory()
    if isinstance(default, tuple):
        default = list(default)
    return f"`{msgspec.json.encode(default).decode()}`"


def meaning(hint: Any) -> str:
    """The description, and the bounds."""
    metas = [item for item in _annotations(hint) if isinstance(item, msgspec.Meta)]
    said = _first(meta.description for meta in metas).replace("<", "&lt;")
    if any(meta.extra and meta.extra[FIRST] for meta in metas):
        said = f"**First.** {said}"
    least, most = _first(meta.ge for meta in metas), _first(meta.le for meta in metas)
    if least is None:
        return said
    return f"{said} At least {least}." if most is None else f"{said} {least} to {most}."


def _first(values: Iterable[Any]) -> Any:
    return next((value for value in values if value is not None), None)


def _annotations(hint: Any) -> list[Any]:
    """All annotations of a type, those of the type it annotates included."""
    if get_origin(hint) is not Annotated:
        return []
    inner, *outer = get_args(hint)
    return [*outer, *_annotations(inner)]


if __name__ == "__main__":
    print(settings_tables(), end="")
