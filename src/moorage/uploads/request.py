"""Decodes and checks a deploy request and its `upload`: the contract's table 1.2."""

import re
import unicodedata
from collections.abc import Mapping
from typing import Any

import msgspec

from moorage.errors import InvalidField
from moorage.misplaced_hash import MisplacedHash, misplaced_hash
from moorage.planning.plan import Settings
from moorage.records.project import MAX_ENTRIES, MAX_VALUE_BYTES
from moorage.suggestion import Suggestions, did_you_mean

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


NAME_PATTERN = re.compile(r"[a-z0-9](?:[a-z0-9-]{2,30})[a-z0-9]", re.ASCII)
ENV_NAME_PATTERN = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}", re.ASCII)
MAX_MONTHS = 24
COMMAND_LENGTH = 4_096
HEALTH_PATH_LENGTH = 1_024

_SHOWN_LENGTH = 64
_MAX_UNKNOWN = 10
_NOT_TEXT = ("Cc", "Cs")  # control characters, and halves of surrogate pairs


class DeployRequest(msgspec.Struct, frozen=True):
    """The fields of a deploy request, without the files."""

    unique_name: str
    display_name: str
    description: str | None  # None keeps that of the project, if it has one
    months: int
    settings: Settings
    unknown: tuple[str, ...] = ()
    """Keys of the body that have no effect: some of them, the first first."""
    discard_written: bool | None = None  # whether files of the running version may be lost


def deploy_request(document: Mapping[str, Any]) -> DeployRequest:
    """Checks the body's fields except `upload`. Raises InvalidField for the first wrong one.

    Unknown keys at the top level are told, but not refused, as existing clients send some, unless
    they are settings or near misses of a known key; those in `settings` are refused.
    """
    unknown = [key for key in document if key not in _FIELDS]
    misplaced = _SUGGESTIONS.first(unknown)
    if misplaced is not None:
        raise InvalidField(misplaced[0][:_SHOWN_LENGTH], misplaced[1])
    return DeployRequest(
        unique_name=_unique_name(document.get("uniqueName")),
        display_name=display_name(document),
        description=None if document.get("description") is None else description(document),
        months=_months(document.get("months")),
        settings=deploy_settings(document.get("settings")),
        discard_written=_choice(document, "discard_written"),
        unknown=tuple(
            key[:_SHOWN_LENGTH].encode(errors="replace").decode() for key in unknown[:_MAX_UNKNOWN]
        ),
    )


def _choice(document: Mapping[str, Any], field: str) -> bool | None:
    value = document.get(field)
    if not (value is None or isinstance(value, bool)):
        raise InvalidField(field, "must be true or false")
    return value


def hash_in(document: Mapping[str, Any]) -> MisplacedHash | None:
    """Returns a payment's hash that stands in a field of the body that nobody reads."""
    settings = document.get("settings")
    given = settings if isinstance(settings, dict) else {}
    unread = {key: value for key, value in document.items() if key not in _FIELDS}
    beside = {key: value for key, value in given.items() if key not in _SETTINGS_FIELDS}
    return misplaced_hash({**unread, "settings": beside})


def display_name(document: Mapping[str, Any]) -> str:
    """Returns the body's `displayName`. Raises InvalidField."""
    return _text(document, "displayName", min_=1, max_=100, default=None)


def description(document: Mapping[str, Any]) -> str:
    """Returns the body's `description`. Raises InvalidField."""
    return _text(document, "description", min_=0, max_=2048, default="")


def check_health_path(field: str, value: str) -> None:
    """Checks that `value` can be sent as the path of an HTTP request. Raises InvalidField."""
    if not _HEALTH_PATH.fullmatch(value) or len(value) > HEALTH_PATH_LENGTH:
        raise InvalidField(
            field, f"must be a path from / on, of at most {HEALTH_PATH_LENGTH} printable characters"
        )


def check_variables(field: str, variables: Mapping[str, str | None]) -> None:
    """Checks that a shell can set the names, and an environment can hold the values.

    Raises InvalidField, whose text never has a value.
    """
    if len(variables) > MAX_ENTRIES:
        raise InvalidField(field, f"must have at most {MAX_ENTRIES} entries")
    for name, value in variables.items():
        if not ENV_NAME_PATTERN.fullmatch(name):
            raise InvalidField(field, f"{name[:_SHOWN_LENGTH]!r} is not the name of a variable")
        if value is None:
            continue
        if len(value.encode("utf-8", "surrogatepass")) > MAX_VALUE_BYTES:
            raise InvalidField(f"{field}.{name}", f"must be at most {MAX_VALUE_BYTES} bytes")
        if _NO_VALUE.search(value):
            raise InvalidField(f"{field}.{name}", "must be text without NUL")


def _unique_name(value: object) -> str:
    if not isinstance(value, str):
        raise InvalidField("uniqueName", "is required and must be a string")
    folded = value.lower() if value.isascii() else value  # the Kelvin sign is no k
    if not NAME_PATTERN.fullmatch(folded):
        raise InvalidField("uniqueName", "must be 4–32 of a–z, 0–9 and -, with no - at either end")
    return folded


def _text(
    document: Mapping[str, Any], field: str, *, min_: int, max_: int, default: str | None
) -> str:
    value = document.get(field)
    if value is None and default is not None:
        return default
    if not isinstance(value, str):
        required = "is required and " if default is None else ""
        raise InvalidField(field, f"{required}must be a string")
    if not min_ <= len(value) <= max_:
        raise InvalidField(field, f"must have {min_}–{max_} characters")
    if any(unicodedata.category(char) in _NOT_TEXT and char not in "\n\t\r" for char in value):
        raise InvalidField(field, "must not hold control characters")
    return value


def _months(value: object) -> int:
    """Returns the months; 2.0 is accepted as 2, because JSON does not distinguish them."""
    if value is None:
        return 1
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if type(value) is not int or not 1 <= value <= MAX_MONTHS:
        raise InvalidField("months", f"must be a whole number from 1 to {MAX_MONTHS}")
    return value


def deploy_settings(value: object) -> Settings:
    """Returns the body's `settings` with defaults for what is missing. Raises InvalidField."""
    if value is None:
        return Settings()
    if not isinstance(value, dict):
        raise InvalidField("settings", "must be an object")
    for key in value:
        if key not in _SETTINGS_FIELDS:
            advice = _SETTINGS_SUGGESTIONS.advice(key) or f"is not a setting; {_SETTINGS_ARE}"
            raise InvalidField(f"settings.{key[:_SHOWN_LENGTH]}", advice)
    given = {key: item for key, item in value.items() if item is not None}
    try:
        settings = msgspec.convert(given, Settings)
    except msgspec.ValidationError as error:
        raise _field_error(error) from error
    _check_settings(settings)
    return settings


_FIELDS = frozenset(
    (
        *("uniqueName", "displayName", "description", "months", "settings", "upload"),
        "discard_written",
    )
)
_SETTINGS_FIELDS = frozenset(field.encode_name for field in msgspec.structs.fields(Settings))
_SETTINGS_ARE = f"there are {', '.join(sorted(_SETTINGS_FIELDS))}"
_SUGGESTIONS = Suggestions(
    {key: f"is a setting: send it as settings.{key}" for key in _SETTINGS_FIELDS}
    | did_you_mean(_FIELDS)
)
_SETTINGS_SUGGESTIONS = Suggestions(
    {key: f"is no setting: send {key} beside settings, not in it" for key in _FIELDS}
    | {key: f"is not a setting; did you mean settings.{key}?" for key in _SETTINGS_FIELDS}
)
_NO_VALUE = re.compile("[\0\ud800-\udfff]")
_HEALTH_PATH = re.compile(r"/[!-~]*", re.ASCII)
_AT_PATH = re.compile(r"(?P<problem>.*) - at `\$(?P<path>.*)`", re.DOTALL)


def _field_error(error: msgspec.ValidationError) -> InvalidField:
    match = _AT_PATH.fullmatch(str(error))
    if match is None:
        return InvalidField("settings", str(error))
    path = match["path"].replace("[...]", "")
    return InvalidField(f"settings{path}", match["problem"])


def _check_settings(settings: Settings) -> None:
    if not 1 <= settings.port <= 65_535:
        raise InvalidField("settings.port", "must be 1–65535")
    for name in ("install_command", "build_command", "run_command"):
        command = getattr(settings, name)
        if command is not None and (len(command) > COMMAND_LENGTH or "\0" in command):
            raise InvalidField(
                f"settings.{_camel(name)}", f"must be at most {COMMAND_LENGTH} characters"
            )
    for field, variables in (
        ("runEnvs", settings.run_envs),
        ("buildVars", settings.build_vars),
    ):
        check_variables(f"settings.{field}", variables)
    if settings.health_path is not None:
        check_health_path("settings.healthPath", settings.health_path)


def _camel(name: str) -> str:
    head, *tail = name.split("_")
    return head + "".join(part.title() for part in tail)
