"""The two logs of one deployment, for its engine."""

import contextlib
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from moorage.clock import Clock
from moorage.engines.engine import Cursor, LogPage
from moorage.engines.logs import reader, store
from moorage.engines.logs.collecting import Collecting
from moorage.engines.logs.pipes import Pipes
from moorage.records.deployment import LogKind

_TAIL_LINES = 10_000


@dataclass(frozen=True, kw_only=True)
class Logs:
    """Logs and pipes in a deployment's directory, which apps can't reach. Methods block."""

    directory: Path
    collecting: Collecting | None  # None where nothing is written into pipes
    clock: Clock
    changed: Callable[[str, LogKind], None] | None = None  # told of lines, by the deployment's id

    def create(self) -> None:
        """Makes the logs, unless they exist; keeps lines of an earlier attempt."""
        for kind in LogKind:
            self.of(kind).mkdir(parents=True, exist_ok=True, mode=0o700)

    def open_pipes(self, kind: LogKind) -> Pipes:
        """Opens pipes for a command's output; close them once it runs. Raises OSError."""
        pipes = Pipes(self.directory / "pipes", kind)
        if self.collecting is not None:
            self.collecting.watch(self.directory.name, kind)
        return pipes

    def drain(self, kind: LogKind) -> None:
        """Waits until everything written so far is in the log."""
        if self.collecting is not None:
            self.collecting.drain(self.directory.name, kind)

    def append(self, kind: LogKind, letter: bytes, lines: Sequence[bytes], *, at_ms: int) -> None:
        """Writes lines; does nothing if there is no log, or no space."""
        cap = store.CAP_BYTES[kind]
        with contextlib.suppress(OSError):
            store.append(self.of(kind), letter, lines, at_ms=at_ms, cap_bytes=cap)
            if self.changed is not None:
                self.changed(self.directory.name, kind)

    def note(self, kind: LogKind, text: str) -> None:
        """Writes a line of the gateway's; does nothing if there is no log, or no space."""
        line = text.replace("\n", " ").encode("utf-8", "replace")[: store.LINE_BYTES]
        self.append(kind, store.GATEWAY, [line], at_ms=self.clock.now_ms())

    def read(
        self, kind: LogKind, *, after: Cursor, since_ms: int, tail: int | None, limit: int
    ) -> LogPage:
        """As `Engine.read_log`."""
        log = self.of(kind)
        return reader.read_log(log, after=after, since_ms=since_ms, tail=tail, limit=limit)

    def tail(self, kind: LogKind, max_chars: int) -> str:
        """Returns the end of a log, as text."""
        page = reader.read_log(self.of(kind), tail=_TAIL_LINES, limit=_TAIL_LINES)
        return "".join(f"{line.text}\n" for line in page.lines)[-max_chars:]

    def is_empty(self, kind: LogKind) -> bool:
        """Returns whether the log is empty."""
        return not store.segments(self.of(kind))

    def copy_from(self, other: "Logs", kind: LogKind) -> None:
        """Replaces this log by another deployment's. Raises OSError."""
        shutil.rmtree(self.of(kind), ignore_errors=True)
        shutil.copytree(other.of(kind), self.of(kind))

    def of(self, kind: LogKind) -> Path:
        """Returns the directory of a log's segments."""
        return self.directory / "logs" / kind
