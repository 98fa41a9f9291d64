"""How a patch becomes part of an object: merge patches, and server-side apply.

Lists whose items have a key are merged item by item; all others are replaced whole. A field is a
path of keys; an item of a keyed list is the step `{"name": "app"}` as text.
"""

import json
from collections.abc import Iterator
from typing import Any, TypeAlias

from support.engines.fake_kubernetes.resources import Manifest

Path: TypeAlias = tuple[str, ...]

KEYS: dict[str, tuple[str, ...]] = {
    "containers": ("name",),
    "initContainers": ("name",),
    "env": ("name",),
    "volumes": ("name",),
    "volumeMounts": ("mountPath",),
    "imagePullSecrets": ("name",),
    "conditions": ("type",),
    "ownerReferences": ("uid",),
    "hostAliases": ("ip",),
}
"""What identifies an item, by the name of the list; `ports` and `finalizers` aside."""

UNOWNED = {"apiVersion", "kind", "metadata.name", "metadata.namespace", "metadata.resourceVersion"}
"""What identifies the object itself is nobody's."""


def item_key(name: str, item: Any) -> str | None:
    """The step for an item of the list `name`; None if such lists are replaced whole."""
    if name == "finalizers":
        return json.dumps(item)
    if name == "ports" and isinstance(item, dict):
        number = next((key for key in ("containerPort", "port") if key in item), None)
        if number is None:
            return None
        return json.dumps([item[number], item.get("protocol", "TCP")])
    if name in KEYS and isinstance(item, dict):
        return json.dumps([item.get(key) for key in KEYS[name]])
    return None


def leaves(thing: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Each field that has no fields below, with its value."""
    if isinstance(thing, dict) and thing:
        for key, value in thing.items():
            if ".".join((*path, key)) not in UNOWNED:
                yield from leaves(value, (*path, key))
    elif isinstance(thing, list) and thing and path and item_key(path[-1], thing[0]) is not None:
        for item in thing:
            yield from leaves(item, (*path, str(item_key(path[-1], item))))
    elif path:
        yield path, thing


def merged(live: Any, patch: Any, *, name: str = "", keyed: bool = True) -> Any:
    """The object with the patch: RFC 7386, and keyed lists item by item if `keyed`."""
    if isinstance(patch, dict):
        result = dict(live) if isinstance(live, dict) else {}
        for key, value in patch.items():
            if value is None:
                result.pop(key, None)
            else:
                result[key] = merged(result.get(key), value, name=key, keyed=keyed)
        return result
    if keyed and isinstance(patch, list) and isinstance(live, list):
        return _merged_list(live, patch, name)
    return patch


def _merged_list(live: list[Any], patch: list[Any], name: str) -> list[Any]:
    if not patch or item_key(name, patch[0]) is None:
        return patch
    items = {item_key(name, item): item for item in live}
    for item in patch:
        key = item_key(name, item)
        if isinstance(item, dict) and item.get("$patch") == "delete":
            items.pop(key, None)
        else:
            items[key] = merged(items.get(key), item)
    return list(items.values())


def without(live: Manifest, path: Path) -> None:
    """Removes a field, and what is empty above it then."""
    _remove(live, path, name="")


def _remove(thing: Any, path: Path, *, name: str) -> None:
    step, rest = path[0], path[1:]
    if isinstance(thing, list):
        at = next((i for i, item in enumerate(thing) if item_key(name, item) == step), None)
        if at is None:
            return
        place: Any = at
    elif isinstance(thing, dict) and step in thing:
        place = step
    else:
        return
    child = thing[place]
    if rest:
        _remove(child, rest, name=step if isinstance(thing, dict) else "")
    if not rest or child in ({}, []) or (isinstance(thing, list) and _is_key_alone(name, child)):
        del thing[place]


def _is_key_alone(name: str, item: Any) -> bool:
    """Whether an item of a list has nothing left but what identifies it."""
    keys = {*KEYS.get(name, ()), "containerPort", "port", "protocol"}
    return isinstance(item, dict) and set(item) <= keys


def changed(before: Manifest, after: Manifest) -> set[Path]:
    """The fields that a write has set to another value."""
    old = dict(leaves(before))
    return {path for path, value in leaves(after) if path not in old or old[path] != value}
