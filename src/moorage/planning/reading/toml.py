"""Reads TOML of an upload, with limits that the parser lacks."""

import re
import tomllib
from collections.abc import Mapping

from moorage.errors import UploadInvalid
from moorage.planning.reading.folder import Folder

KEY_PARTS_LIMIT = 200  # of one dotted key; the parser's time and memory grow with their square
LIMIT = 65_536  # bytes

# Text with dots that is no key. Each branch matches closed or not, so that the whole is linear.
_ASIDE = re.compile(
    r'#[^\n]*|"""(?:[^"\\]|\\[\s\S]|"{1,2}(?!"))*+(?:"{3,5}|\Z)|"(?:[^"\\\n]|\\.)*+"?'
    r"|'''(?:[^']|'{1,2}(?!'))*+(?:'{3,5}|\Z)|'[^'\n]*+'?"
)
_BETWEEN_KEYS = re.compile(r"[=\n]")


def toml_document(folder: Folder, name: str) -> Mapping[str, object]:
    """Parses the file. Raises UploadInvalid, naming it, if it is no TOML or over the limits."""
    path = folder.path(name)
    text = folder.text(name, limit=LIMIT)
    bare = _BETWEEN_KEYS.split(_ASIDE.sub("", text))
    if any(part.count(".") >= KEY_PARTS_LIMIT for part in bare):
        raise UploadInvalid(f"has a key of more than {KEY_PARTS_LIMIT} parts", path=path)
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise UploadInvalid(f"is not valid TOML: {str(error)[:200]}", path=path) from error
