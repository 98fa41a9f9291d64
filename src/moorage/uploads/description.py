"""The `upload` member of the body, after file contents were removed from it."""

import re
from typing import Any

import msgspec

from moorage.errors import InvalidField

_MAX_FILENAME = 255
_SHA256 = re.compile(r"[0-9A-Fa-f]{64}", re.ASCII)


class FilesUpload(msgspec.Struct, frozen=True):
    """`{"type": "files"}`: each file's path, in the body's order, which the contents have too."""

    paths: list[str]


class ZipUpload(msgspec.Struct, frozen=True):
    """`{"type": "zip"}`: `filename` is only used to name the archive in messages."""

    filename: str | None


class StoredUpload(msgspec.Struct, frozen=True):
    """`{"type": "digest"}`: an upload that was stored before; `sha256` is 64 hex digits."""

    sha256: str


class ExportUpload(msgspec.Struct, frozen=True):
    """`{"type": "export"}`: an archive of a project; `sha256` is 64 hex digits."""

    sha256: str


def read_description(document: object) -> FilesUpload | ZipUpload | StoredUpload | ExportUpload:
    """Returns the upload that `document` describes, a body with `""` for each content.

    Other members are ignored. Raises InvalidField with a path such as `upload.files[2].path`.
    """
    if not isinstance(document, dict):
        raise InvalidField("body", "must be a JSON object")
    upload = document.get("upload")
    if not isinstance(upload, dict):
        raise InvalidField("upload", "is required, an object" if upload is None else _OBJECT)
    match upload.get("type"):
        case "files":
            _absent(upload, "data", "zip")
            return FilesUpload(paths=_paths(upload.get("files")))
        case "zip":
            _absent(upload, "files", "files")
            return _archive(upload)
        case "digest":
            _absent(upload, "files", "files")
            _absent(upload, "data", "zip")
            return StoredUpload(sha256=read_sha256("upload.sha256", upload.get("sha256")))
        case "export":
            _absent(upload, "files", "files")
            _absent(upload, "data", "zip")
            return ExportUpload(sha256=read_sha256("upload.sha256", upload.get("sha256")))
        case _:
            raise InvalidField("upload.type", 'must be "files", "zip", "digest" or "export"')


def read_sha256(field: str, text: object) -> str:
    """Returns a SHA-256 in lower case. Raises InvalidField unless it is 64 hex digits."""
    if not isinstance(text, str) or not _SHA256.fullmatch(text):
        raise InvalidField(field, "must be a SHA-256, as 64 hex digits")
    return text.lower()


_OBJECT = "must be an object"


def _absent(upload: dict[str, Any], member: str, kind: str) -> None:
    if upload.get(member) is not None:
        raise InvalidField(f"upload.{member}", f'belongs to an upload of type "{kind}"')


def _paths(files: object) -> list[str]:
    if not isinstance(files, list):
        raise InvalidField("upload.files", "must be a list of files")
    if not files:
        raise InvalidField("upload.files", "is empty: send at least one file")
    for index, file in enumerate(files):
        if not isinstance(file, dict):
            raise InvalidField(f"upload.files[{index}]", _OBJECT)
        for member in ("path", "content"):
            if not isinstance(file.get(member), str):
                raise InvalidField(f"upload.files[{index}].{member}", "must be a string")
    return [file["path"] for file in files]


def _archive(upload: dict[str, Any]) -> ZipUpload:
    if not isinstance(upload.get("data"), str):
        raise InvalidField("upload.data", "must be a string, the archive in base64")
    filename = upload.get("filename")
    if filename is None:
        return ZipUpload(filename=None)
    if not isinstance(filename, str) or not 0 < len(filename) <= _MAX_FILENAME:
        raise InvalidField("upload.filename", f"must be 1 to {_MAX_FILENAME} characters")
    return ZipUpload(filename=filename)
