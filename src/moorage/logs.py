"""Structured logs on standard error, as JSON lines or as text, without secrets.

Modules log by `structlog.get_logger()`. What other libraries log by the standard library goes
through the same processors. Redaction is the last step before rendering, so that it sees
everything. The last lines are kept in memory, for the operator's pages. Values bound by
`structlog.contextvars`, such as a request's id, are added to each line.
"""

import heapq
import json
import logging
import re
import sys
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import lru_cache
from pathlib import PurePath
from typing import Any, BinaryIO, cast
from uuid import UUID

import msgspec

from moorage.errors import ConfigurationInvalid
from moorage.imports import hidden

# structlog imports rich, to colour tracebacks, wherever it is installed; here it is, as the command
# line needs it. Our logs have no colours, and it takes 6 MiB.
with hidden("rich"):
    import structlog
    from structlog.typing import EventDict, Processor, WrappedLogger

REDACTED = "[redacted]"

_LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}

_SECRET_NAME = re.compile(
    r"authorization|signature|secret|password|passwd|cookie|credential|private_?key|api_?key"
    r"|mnemonic|seed|run_?envs|build_?vars|^env$|^key$|^keys$|^headers$"
)
_HASH_NAME = re.compile(r"(^|_)(tx|hash|digest|transaction)$")

_LONG_HEX_DIGITS = 64
_LONG_HEX = re.compile(rf"[0-9a-fA-F]{{{_LONG_HEX_DIGITS}}}")
_SIGNATURE = re.compile(r"(?:0[xX])?[0-9a-fA-F]{128,}")
_HASH = re.compile(r"(?<![0-9A-Za-z])(0[xX])?([0-9a-fA-F]{4})[0-9a-fA-F]{56}([0-9a-fA-F]{4})(?!\w)")
_PAYLOAD = re.compile(r"\beyJ[A-Za-z0-9+/_=-]{32,}")  # base64 of JSON, as payment headers carry it
_CREDENTIAL = re.compile(r"\b(payment|bearer|basic)\s+[A-Za-z0-9+/_=.~-]{16,}", re.IGNORECASE)
_QUERY = re.compile(
    r"(?<=[?&])([^\s=&]{0,32}(?:key|token|secret|sig)[^\s=&]{0,32})=[^\s&]+", re.IGNORECASE
)
_URL = re.compile(r"://\S+")
_URL_USER = re.compile(r"(?<=://)[^\s/?#@]+(?=@)")
_URL_KEY = re.compile(r"(?<=[^/]/)[A-Za-z0-9_-]{20,}")  # as chain nodes' providers issue them

_WORSE = frozenset({"warning", "error", "critical", "exception"})
_MAX_KEPT_BYTES = 8 * 1024

_SHOWN_AS_TEXT = (PurePath, BaseException, Decimal, date, UUID)


class Recent:
    """The last lines that this process logged, as JSON; what warns is not displaced by the rest."""

    def __init__(self, *, lines: int = 4_000, warnings: int = 1_000) -> None:
        self._lines: deque[tuple[int, bytes]] = deque(maxlen=lines)
        self._warnings: deque[tuple[int, bytes]] = deque(maxlen=warnings)
        self._count = 0

    def add(self, method: str, line: bytes) -> None:
        """Keeps a line that was logged by this method of a logger, unless it is too long."""
        if len(line) > _MAX_KEPT_BYTES:
            return
        self._count += 1
        kept = self._warnings if method in _WORSE else self._lines
        kept.append((self._count, line))

    def find(self, *, text: str, level: str, limit: int) -> list[dict[str, Any]]:
        """Returns the newest lines that have this text, at most `limit`, the newest first.

        `level` is warning, error, or anything else for all.
        """
        wanted = text.lower().encode()
        worst = () if level in ("warning", "error") else reversed(self._lines)
        found: list[dict[str, Any]] = []
        for _, line in heapq.merge(reversed(self._warnings), worst, reverse=True):
            if wanted in line.lower():
                event = msgspec.json.decode(line)
                if level != "error" or event.get("level") != "warning":
                    found.append(event)
            if len(found) == limit:
                break
        return found


recent = Recent()
"""What this process logged of late."""


class _Output:
    """What lines are written to: a gateway must not end because its log can't be written."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream

    def write(self, line: bytes) -> None:
        with suppress(OSError):
            self._stream.write(line)

    def flush(self) -> None:
        with suppress(OSError):
            self._stream.flush()


def threshold_of(level: str) -> int:
    """Returns a level by its name. Raises ConfigurationInvalid for an unknown one."""
    threshold = _LEVELS.get(level.lower())
    if threshold is None:
        raise ConfigurationInvalid(f"log_level: {level!r} is none of {', '.join(_LEVELS)}.")
    return threshold


def configure(*, level: str, json: bool | None = None, stream: BinaryIO | None = None) -> None:
    """Logs to `stream` (standard error) from `level` up, as text for people on a terminal.

    Elsewhere each line is JSON, unless `json` decides.

    A line that can't be written, as on a full disk, is lost, except from `recent`. Raises
    ConfigurationInvalid for a level that is none of debug, info, warning and error.
    """
    threshold = threshold_of(level)
    output = stream or sys.stderr.buffer
    as_json: list[Processor] = [_add_timestamp, _render_json]
    as_text: list[Processor] = [
        _keep,
        structlog.processors.TimeStamper("iso"),
        _console(colors=output.isatty()),
    ]
    processors: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.format_exc_info,  # here, so that its text is redacted
        redact,
        structlog.processors.add_log_level,
        *(as_text if (output.isatty() if json is None else not json) else as_json),
    ]
    structlog.configure(
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=structlog.BytesLoggerFactory(cast("BinaryIO", _Output(output))),
        cache_logger_on_first_use=False,  # a module's logger follows when this is called again
    )
    # Of other libraries, an operator needs only warnings and errors; at info they log too much.
    logging.basicConfig(
        handlers=[_Foreign()],
        level=threshold if threshold == logging.DEBUG else max(threshold, logging.WARNING),
        force=True,
    )


def redact(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Returns the event without secrets.

    It removes values with a secret's name, texts shaped like signatures, credentials and payment
    payloads, passwords and keys in URLs, bytes, and objects of other types. It shortens 32 bytes of
    hex, which may be a private key, to their ends, unless their name says that they are a hash.
    """
    return {name: _redacted(name, value) for name, value in event.items()}


def redacted(text: str) -> str:
    """Returns a text without what looks like a secret, as the log would show it."""
    return _redacted_text("", text)


def _redacted(name: str, value: object) -> object:
    if _is_secret(name):
        return REDACTED
    if isinstance(value, str):
        return _redacted_text(name, str(value))
    match value:
        case None | bool() | int() | float():
            return value
        case Mapping():
            return {str(key): _redacted(str(key), item) for key, item in value.items()}
        case list() | tuple() | set() | frozenset():
            return [_redacted(name, item) for item in value]
        case bytes() | bytearray() | memoryview():
            return f"<{len(value)} bytes>"
        case _ if isinstance(value, _SHOWN_AS_TEXT):
            return _redacted_text(name, str(value))
    return f"<{type(value).__name__}>"


def _redacted_text(name: str, text: str) -> str:
    # A search for a part that the pattern needs costs a tenth of the pattern itself.
    if "eyJ" in text:
        text = _PAYLOAD.sub(REDACTED, text)
    if " " in text:
        text = _CREDENTIAL.sub(rf"\1 {REDACTED}", text)
    if "=" in text:
        text = _QUERY.sub(rf"\1={REDACTED}", text)
    if "://" in text:
        text = _URL.sub(_redacted_url, text)
    if len(text) >= _LONG_HEX_DIGITS and _LONG_HEX.search(text):
        text = _SIGNATURE.sub(REDACTED, text)
        text = text if _is_hash(name) else _HASH.sub(r"\1\2…\3", text)
    return text


def _redacted_url(url: re.Match[str]) -> str:
    return _URL_KEY.sub(REDACTED, _URL_USER.sub(REDACTED, url[0]))


@lru_cache(maxsize=1024)
def _is_secret(name: str) -> bool:
    return _SECRET_NAME.search(name.lower().replace("-", "_")) is not None


@lru_cache(maxsize=1024)
def _is_hash(name: str) -> bool:
    return _HASH_NAME.search(name.lower().replace("-", "_")) is not None


def _add_timestamp(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    event["timestamp"] = datetime.now(UTC)  # which the encoder writes faster than it is formatted
    return event


def _render_json(_logger: WrappedLogger, method: str, event: EventDict) -> bytes:
    line = _json(event)
    recent.add(method, line)
    return line


def _keep(_logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    recent.add(method, _json({**event, "timestamp": datetime.now(UTC)}))
    return event


def _json(event: EventDict) -> bytes:
    try:
        return msgspec.json.encode(event)
    except (UnicodeEncodeError, OverflowError):  # a file name that is no UTF-8, a huge number
        text = json.dumps(event, default=msgspec.to_builtins, ensure_ascii=False)
        return text.encode(errors="replace")


def _console(*, colors: bool) -> Processor:
    render = structlog.dev.ConsoleRenderer(colors=colors)

    def render_bytes(logger: WrappedLogger, method: str, event: EventDict) -> bytes:
        return render(logger, method, event).encode(errors="backslashreplace")

    return render_bytes


class _Foreign(logging.Handler):
    """Passes what other libraries log on to structlog."""

    def emit(self, record: logging.LogRecord) -> None:
        """Logs `record` as an event of ours."""
        try:
            fields: dict[str, Any] = {"logger": record.name}
            if record.exc_info:
                fields["exc_info"] = record.exc_info
            structlog.get_logger().log(record.levelno, record.getMessage(), **fields)
        except Exception:  # noqa: BLE001 - logging must not fail its caller; reported by handleError
            self.handleError(record)
