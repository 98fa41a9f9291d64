"""Reads JSON that may have comments and trailing commas, as tools of JavaScript write it."""

import json
import re

from moorage.planning.reading.folder import Folder

_LIMIT = 65_536  # bytes
# Each branch matches closed or not, so that the whole is linear.
_COMMENT = re.compile(r'("(?:[^"\\\n]|\\.)*"?)|//[^\n]*|/\*[\s\S]*?(?:\*/|\Z)')
_TRAILING = re.compile(r",(?=\s*[}\]])")


def json_document(folder: Folder, name: str) -> dict[str, object]:
    """Returns the file's object; an empty one if it has none, or can't be read."""
    text = folder.data(name, limit=_LIMIT).decode(errors="replace")
    bare = _TRAILING.sub("", _COMMENT.sub(lambda match: match[1] or "", text))
    try:
        document = json.loads(bare)
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}
