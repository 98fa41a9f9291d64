"""A deploy's request: what its body must say, and how that is read from it."""

import json
import math
import re
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple, Protocol

import msgspec

from moorage.errors import BodyTooLarge, InvalidField, UploadInvalid
from moorage.money import MicroUsd, credits_in
from moorage.planning.cron import check_cron, zone
from moorage.planning.plan import PlannedSchedule, Settings
from moorage.records.project import MAX_ENTRIES, MAX_VALUE_BYTES, AskedPurse
from moorage.records.run import MAX_SCHEDULES, MAX_TIMEOUT_SECONDS
from moorage.records.size import SIZE_NAME
from moorage.unknown_keys import MisplacedHash, Suggestions, did_you_mean, misplaced_hash
from moorage.uploads.room import Content, SpoolFile, UploadLimits
from moorage.uploads.unpacking import (
    PathSet,
    Unpacked,
    is_clutter,
)

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

_MAX_SLEEP_AFTER = 31_536_000  # a year: the column is of 32 bits
_SHOWN_LENGTH = 64
_MAX_UNKNOWN = 10
_NOT_TEXT = ("Cc", "Cs")  # control characters, and halves of surrogate pairs


class PurseTerms(msgspec.Struct, frozen=True):
    """What a new project burns first, whether it then burns its wallet's credits, and its limit."""

    amount: MicroUsd
    shared: bool
    limit: MicroUsd | None


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
    purse: PurseTerms | None = None  # of the project, if it is new


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
        purse=_purse(document.get("purse")),
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


def check_sleep(field: str, seconds: int, *, least: int) -> None:
    """Checks how long an app is to idle before it sleeps. Raises InvalidField."""
    if not least <= seconds <= _MAX_SLEEP_AFTER:
        problem = f"must be {least} to {_MAX_SLEEP_AFTER} seconds; null: it never sleeps"
        raise InvalidField(field, problem)


def check_size(field: str, value: object) -> str:
    """Returns `value` if it can be the name of a size. Raises InvalidField."""
    if not isinstance(value, str) or not re.fullmatch(SIZE_NAME, value):
        raise InvalidField(field, "must be the name of a size, as GET /agent/sizes lists them")
    return value


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


def _purse(value: object) -> PurseTerms | None:
    """Returns the terms of the purse of a new project. Raises InvalidField."""
    if value is None:
        return None
    try:
        asked = msgspec.convert(value, AskedPurse)
    except msgspec.ValidationError as error:
        raise _field_error(error, "purse") from error
    amount, limit = credits_in("purse.usd", asked.usd), asked.limit_usd_month
    if not (amount or asked.shared):
        raise InvalidField("purse.usd", "must be above 0 where the project burns nothing else")
    return PurseTerms(
        amount=amount,
        shared=asked.shared,
        limit=None if limit is None else credits_in("purse.limit_usd_month", limit),
    )


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
        *("discard_written", "purse"),
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
_SCHEDULE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,39}", re.ASCII)
_HEALTH_PATH = re.compile(r"/[!-~]*", re.ASCII)
_AT_PATH = re.compile(r"(?P<problem>.*) - at `\$(?P<path>.*)`", re.DOTALL)


def _field_error(error: msgspec.ValidationError, of: str = "settings") -> InvalidField:
    match = _AT_PATH.fullmatch(str(error))
    if match is None:
        return InvalidField(of, str(error))
    path = re.sub(r"\[(\d+)\]", r".\1", match["path"]).replace("[...]", "")
    return InvalidField(f"{of}{path}", match["problem"])


def _check_settings(settings: Settings) -> None:
    if not 1 <= settings.port <= 65_535:
        raise InvalidField("settings.port", "must be 1–65535")
    for name in ("install_command", "build_command", "run_command", "release_command"):
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
    if settings.sleep_after_seconds is not None:
        check_sleep("settings.sleepAfterSeconds", settings.sleep_after_seconds, least=1)
    if settings.size is not None:
        check_size("settings.size", settings.size)
    _check_schedules(settings.schedules)


def _check_schedules(schedules: Sequence[PlannedSchedule]) -> None:
    if len(schedules) > MAX_SCHEDULES:
        raise InvalidField("settings.schedules", f"must be at most {MAX_SCHEDULES}")
    names = set()
    for number, each in enumerate(schedules):
        field = f"settings.schedules.{number}"
        if not _SCHEDULE.fullmatch(each.name):
            raise InvalidField(f"{field}.name", "must be 1 to 40 letters, digits, - and _")
        if each.name in names:
            raise InvalidField(f"{field}.name", "is the name of another schedule")
        names.add(each.name)
        with InvalidField.of(f"{field}.timezone"):
            zone(each.timezone)
        with InvalidField.of(f"{field}.cron"):
            check_cron(each.cron, each.timezone)
        if (each.command is None) == (each.path is None):
            raise InvalidField(f"{field}.command", "must be there, or path, and not both")
        if each.command is not None:
            check_command(f"{field}.command", each.command)
        if each.path is not None:
            check_health_path(f"{field}.path", each.path)
        check_timeout(f"{field}.timeout_seconds", each.timeout_seconds)


def check_command(field: str, command: str) -> None:
    """Checks a command that is not empty. Raises InvalidField."""
    if not command.strip() or len(command.encode("utf-8", "surrogatepass")) > COMMAND_LENGTH:
        raise InvalidField(field, f"must be 1 to {COMMAND_LENGTH} bytes")
    if _NO_VALUE.search(command):
        raise InvalidField(field, "must be text without NUL")


def check_timeout(field: str, seconds: int) -> None:
    """Checks how long a run may take. Raises InvalidField."""
    if not 1 <= seconds <= MAX_TIMEOUT_SECONDS:
        raise InvalidField(field, f"must be 1 to {MAX_TIMEOUT_SECONDS}")


def _camel(name: str) -> str:
    head, *tail = name.split("_")
    return head + "".join(part.title() for part in tail)


_STEP = re.compile(
    # What can be skipped: punctuation, numbers, and strings that are none of our keys.
    rb'[^"\[\]{}]*+(?:"(?!(?:upload|files|content|data)")[^"\\]*+"[^"\[\]{}]*+)*+'
    rb"(?:([\[{])|([\]}]++)"
    rb'|"([^"\\]*+(?:\\.[^"\\]*+)*+)"[ \t\n\r]*+(:[ \t\n\r]*+)?+'  # a string; with a colon, a key
    rb'|(")'  # a string whose end has not arrived
    rb"|\Z)",
    re.DOTALL,
)
_OPENING, _CLOSING, _STRING, _KEY, _UNFINISHED = 1, 2, 3, 4, 5
_TEXT_INSIDE = re.compile(rb'[^"\\]*+(?:\\(?:u[^"\\]{4}|[^u])[^"\\]*+)*+', re.DOTALL)
_MAX_ESCAPE_BYTES = len(rb"\u0000")
_QUOTE = 0x22


class TextSink(Protocol):
    """Takes the strings that are not kept in the skeleton, one after the other."""

    def begin(self) -> None:
        """Begins a text."""
        ...

    def write(self, piece: bytes) -> None:
        """Continues the text; `piece` is raw JSON and does not end inside an escape sequence."""
        ...

    def end(self) -> None:
        """Ends the text."""
        ...


class _Place:
    """A path in the document where an object, an array or a streamed text is expected."""

    __slots__ = ("element", "members", "opening")

    def __init__(
        self,
        opening: bytes,
        *,
        members: "dict[bytes, _Place] | None" = None,
        element: "_Place | None" = None,
    ) -> None:
        self.opening = ord(opening)
        self.members = members or {}
        self.element = element


_TEXT: Final = _Place(b'"')
_FILE: Final = _Place(b"{", members={b"content": _TEXT})
_FILES: Final = _Place(b"[", element=_FILE)
_UPLOAD: Final = _Place(b"{", members={b"files": _FILES, b"data": _TEXT})
_BODY: Final = _Place(b"{", members={b"upload": _UPLOAD})
_ELSEWHERE: Final = _Place(b"{")


class JsonStream:
    """Splits one body: `feed` it pieces of any size, then `finish`.

    Raises InvalidField("body", …) for too deep nesting, too many objects and arrays, and some
    invalid JSON (the parser of the skeleton has to find the rest); BodyTooLarge for a skeleton
    larger than `skeleton_bytes`. Memory: the skeleton and a piece.
    """

    def __init__(
        self, sink: TextSink, *, skeleton_bytes: int, nesting_depth: int, containers: int
    ) -> None:
        self._sink = sink
        self._skeleton_bytes = skeleton_bytes
        self._nesting_depth = nesting_depth
        self._containers = containers
        self._opened = 0
        self._skeleton = bytearray()
        self._held = b""
        self._in_text = False
        self._place = _ELSEWHERE
        self._places = [_ELSEWHERE]  # outermost first
        self._expected: _Place | None = _BODY  # what the next bracket opens

    def feed(self, piece: bytes) -> None:
        """Processes the next bytes of the body."""
        buffer = self._held + piece if self._held else piece
        size = len(buffer)
        position = copied = 0
        while position < size:
            if self._in_text:
                position = copied = self._pass_text(buffer, position)
                if position == size or buffer[position] != _QUOTE:
                    break
                position += 1  # the closing quote belongs to the skeleton
            position = self._scan(buffer, position)
            self._skeleton += buffer[copied:position]
            copied = position
            if not self._in_text:
                break
        self._held = buffer[position:]
        if len(self._skeleton) + len(self._held) > self._skeleton_bytes:
            raise BodyTooLarge(
                "The request body is too large: besides file contents it may hold at most "
                f"{self._skeleton_bytes} bytes."
            )

    def finish(self) -> bytes:
        """Returns the skeleton, after the last `feed`. It must still be parsed strictly."""
        if self._in_text:
            raise not_json("it ends inside a string")
        return bytes(self._skeleton) + self._held

    def _scan(self, buffer: bytes, position: int) -> int:
        """Follows the structure from `position` on; returns where it stopped.

        That is after the opening quote of a text, before an incomplete token, or at the end.
        """
        size = len(buffer)
        for step in _STEP.finditer(buffer, position):
            kind = step.lastindex
            if kind == _OPENING:
                self._open()
            elif kind == _CLOSING:
                self._close(step[_CLOSING])
            elif kind is None:
                return size
            elif kind == _UNFINISHED:
                return step.start(_UNFINISHED)
            elif (end := step.end()) == size:
                return step.start(_STRING) - 1
            elif kind == _KEY and self._begins_text(step[_STRING], buffer[end]):
                return end + 1
        return size

    def _begins_text(self, key: bytes, value: int) -> bool:
        """Begins a text if `key` and its value's first byte are those of one; returns whether."""
        if b"\\" in key:
            key = _unescaped(key)
        place = self._place.members.get(key)
        if place is None or place.opening != value:
            return False
        if place is not _TEXT:
            self._expected = place
            return False
        self._in_text = True
        self._sink.begin()
        return True

    def _open(self) -> None:
        self._opened += 1
        if self._opened > self._containers:
            raise InvalidField("body", f"holds more than {self._containers} objects and arrays")
        place = self._expected or _ELSEWHERE
        self._places.append(place)
        self._place = place
        self._expected = place.element
        if len(self._places) > self._nesting_depth + 1:
            raise InvalidField("body", f"is nested deeper than {self._nesting_depth} levels")

    def _close(self, brackets: bytes) -> None:
        places = self._places
        if len(brackets) >= len(places):
            raise not_json("it closes more than it opens")
        del places[-len(brackets) :]
        self._place = place = places[-1]
        self._expected = place.element

    def _pass_text(self, buffer: bytes, position: int) -> int:
        """Passes on the text from `position`; returns its closing quote, or where to continue."""
        end = buffer.find(b'"', position)
        piece = buffer[position:] if end < 0 else buffer[position:end]
        if b"\\" in piece:
            end = self._end_of_escaped(buffer, position)
            piece = buffer[position:end]
        elif end < 0:
            end = len(buffer)
        if piece:
            self._sink.write(piece)
        if end < len(buffer) and buffer[end] == _QUOTE:
            self._in_text = False
            self._sink.end()
        return end

    def _end_of_escaped(self, buffer: bytes, position: int) -> int:
        """Returns where a text with escapes ends, or where an escape is still incomplete."""
        inside = _TEXT_INSIDE.match(buffer, position)
        end = inside.end() if inside else position
        if len(buffer) - end >= _MAX_ESCAPE_BYTES and buffer[end] != _QUOTE:
            raise not_json("a \\u escape needs four hexadecimal digits")
        return end


def not_json(problem: str) -> InvalidField:
    """Returns the error for a body that is not a JSON document."""
    return InvalidField("body", f"is not valid JSON: {problem}")


def _unescaped(key: bytes) -> bytes:
    try:
        return msgspec.json.decode(b'"%b"' % key, type=str).encode()
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise not_json("a key holds an invalid escape") from None


NOT_BASE64 = "is not base64: the standard alphabet, with padding"


def _number(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError("a number is too large")
    return number


DOCUMENTS = msgspec.json.Decoder(float_hook=_number)
"""Decodes JSON of strangers; by itself it takes 12 µs for a number such as 1.5e300, Python 0.2."""

_POSITION = re.compile(r" \(byte \d+\)$")


class Skeleton(NamedTuple):
    """A body's JSON with `""` for each file content.

    `damaged` is the index of the first content that was not base64, from 0, in the body's order.
    """

    text: bytes
    damaged: int | None


class Described(NamedTuple):
    """A parsed body, without the contents of its files."""

    paths: list[str | None] | None
    """Each content's path, or None for a file that no app needs; None for an archive."""
    archive_name: str | None
    asked: DeployRequest | InvalidField
    """The request, or its error; errors of the files are raised before this one."""
    stored: str | None = None
    """The SHA-256 of an upload that was stored before; then `paths` says nothing."""
    misplaced: MisplacedHash | None = None
    """A payment's hash in a field that nobody reads."""
    export: str | None = None
    """The SHA-256 of a project's archive; then `paths` says nothing."""


class Parser(Protocol):
    """Parses uploads for `read_upload`."""

    async def describe(self, skeleton: Skeleton, limits: UploadLimits) -> Described:
        """Returns the parsed body. Raises InvalidField, UploadInvalid, and errors of its limits."""
        ...

    async def unpack(
        self, archive: Content, into: SpoolFile, limits: UploadLimits, *, is_tree: bool = False
    ) -> list[Unpacked]:
        """Writes the archive's files into `into` and lists them; `is_tree`: of an export.

        Raises UploadInvalid, OSError, and errors of its limits.
        """
        ...

    async def check_volume(self, descriptor: int, *, offset: int, max_bytes: int) -> None:
        """Checks the volume of an export, which begins at a place of an open file.

        Closes the descriptor. Raises UploadInvalid, OSError, and errors of its limits.
        """
        ...


def describe(skeleton: Skeleton, limits: UploadLimits) -> Described:
    """Returns the parsed body. It must be strict JSON without repeated keys or unsafe paths."""
    document = _document(skeleton.text)
    upload = read_description(document)
    if isinstance(upload, StoredUpload):
        return Described(None, None, _asked(document), upload.sha256, hash_in(document))
    if isinstance(upload, ExportUpload):
        misplaced = hash_in(document)
        return Described(None, None, _asked(document), None, misplaced, upload.sha256)
    paths, archive_name = None, None
    if isinstance(upload, FilesUpload):
        paths = _checked(upload.paths, skeleton.damaged, limits)
    else:
        archive_name = upload.filename
        if skeleton.damaged is not None:
            raise UploadInvalid(NOT_BASE64, path=archive_name)
    return Described(paths, archive_name, _asked(document), misplaced=hash_in(document))


def _document(text: bytes) -> dict[str, Any]:
    try:
        document = DOCUMENTS.decode(text)
        if _may_repeat_keys(text, document):
            _DISTINCT.decode(text.decode())
    except msgspec.DecodeError as error:
        # The position is the skeleton's, not the body's.
        raise not_json(_POSITION.sub("", str(error)).removeprefix("JSON is malformed: ")) from None
    except UnicodeDecodeError:
        raise not_json("it is not UTF-8") from None
    if not isinstance(document, dict):
        raise InvalidField("body", "must be a JSON object")
    return document


def _may_repeat_keys(text: bytes, document: object) -> bool:
    """Returns False only if `document` has every string of the skeleton, so no key was dropped.

    Without escapes, each string has two quotation marks, and nothing else has any. Counting them
    costs a tenth of a parser that reports keys, which only a skeleton with escapes needs.
    """
    if b"\\" in text:
        return True
    return text.count(b'"') != msgspec.json.encode(document).count(b'"')


def _distinct(members: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(members)
    if len(found) != len(members):
        for key, _ in members:
            if key not in found:
                raise InvalidField("body", f"has the key {key[:64]!r} twice in one object")
            del found[key]
    return found


_DISTINCT = json.JSONDecoder(object_pairs_hook=_distinct)


def _checked(paths: list[str], damaged: int | None, limits: UploadLimits) -> list[str | None]:
    known = PathSet(limits)
    kept: list[str | None] = []
    for index, path in enumerate(paths):
        known.add_file(path)
        if index == damaged:
            raise UploadInvalid(NOT_BASE64, path=path)
        kept.append(None if is_clutter(path) else path)
    if all(path is None for path in kept):
        raise InvalidField("upload.files", "holds no file of an app")
    return kept


def _asked(document: dict[str, Any]) -> DeployRequest | InvalidField:
    try:
        return deploy_request(document)
    except InvalidField as error:
        return error
