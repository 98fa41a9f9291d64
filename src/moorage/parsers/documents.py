"""JSON documents of strangers, decoded: how many values one may hold, and how deep."""

MAX_VALUES = 2_000
"""Members and items of all objects and arrays. The largest honest document has some 700: a tool's
call with 100 files and 200 variables of each kind."""

MAX_DEPTH = 32


def is_bounded(document: object) -> bool:
    """Whether a document has no more values, and is no deeper. Looks at no more than that many."""
    found = [(document, 1)]
    values = 0
    for value, depth in found:  # it grows meanwhile
        if not isinstance(value, dict | list):
            continue
        values += len(value)
        if values > MAX_VALUES or depth > MAX_DEPTH:
            return False
        inner = value.values() if isinstance(value, dict) else value
        found += ((each, depth + 1) for each in inner)
    return True
