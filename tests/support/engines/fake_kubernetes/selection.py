"""Label and field selectors of lists and watches."""

import re
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from support.engines.fake_kubernetes.faults import bad_request
from support.engines.fake_kubernetes.resources import Manifest

Condition: TypeAlias = Callable[[Manifest], bool]

_SET = re.compile(r"^(\S+) (in|notin) \(([^)]*)\)$")


def selected(labels: str, fields: str) -> Condition:
    """Whether an object has these labels and fields, both as in a query."""
    conditions = [_label(term) for term in _split(labels)]
    conditions += [_field(term) for term in _split(fields)]
    return lambda found: all(holds(found) for holds in conditions)


def matches(selector: Mapping[str, Any] | None, labels: Mapping[str, str]) -> bool:
    """Whether a `matchLabels` selector, the only kind played, holds."""
    wanted = (selector or {}).get("matchLabels", {})
    return all(labels.get(key) == value for key, value in wanted.items())


def labels_of(found: Manifest) -> dict[str, str]:
    labels: dict[str, str] = found["metadata"].get("labels") or {}
    return labels


def _split(selector: str) -> list[str]:
    """The terms, at commas that are not between brackets."""
    return [term.strip() for term in re.split(r",(?![^(]*\))", selector) if term.strip()]


def _label(term: str) -> Condition:
    if found := _SET.match(term):
        key, operator, values = found.groups()
        members = {value.strip() for value in values.split(",")}
        if operator == "in":
            return lambda thing: labels_of(thing).get(key) in members
        return lambda thing: labels_of(thing).get(key) not in members
    key, operator, value = _equality(term)
    if operator == "exists":
        return lambda thing: key in labels_of(thing)
    if operator == "absent":
        return lambda thing: key not in labels_of(thing)
    wanted = operator == "="
    return lambda thing: (labels_of(thing).get(key) == value) is wanted


def _field(term: str) -> Condition:
    key, operator, value = _equality(term)
    if operator not in {"=", "!="}:
        raise bad_request(f"invalid field selector: {term!r}")
    wanted = operator == "="

    def holds(thing: Manifest) -> bool:
        found: Any = thing
        for step in key.split("."):
            found = found.get(step) if isinstance(found, dict) else None
        return (str(found or "") == value) is wanted

    return holds


def _equality(term: str) -> tuple[str, str, str]:
    for operator in ("!=", "==", "="):
        key, found, value = term.partition(operator)
        if found:
            return key.strip(), operator.replace("==", "="), value.strip()
    return (term[1:], "absent", "") if term.startswith("!") else (term, "exists", "")
