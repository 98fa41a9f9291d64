"""Splits the output from a pipe into lines for a log, and limits their rate."""

from collections.abc import Sequence

from moorage.engines.logs.store import GATEWAY, LINE_BYTES

RATE_BYTES = 1024 * 1024
"""How many bytes a log accepts per second, in the long run, counted as on disk."""

BURST_BYTES = 4 * RATE_BYTES
"""How many bytes it accepts at once, after it got less for a while."""

HELD_BYTES = 64 * 1024
"""How many bytes are kept of the end of excess output, as they often say why an app ended."""

_PREFIX_BYTES = 17  # of a line on disk: time, letter, blanks, line feed
_UTF8_MAX_BYTES = 4
_WHY = "a log takes 1 MiB a second, 4 MiB at once, and no more than the disk has room for"

Entry = tuple[bytes, list[bytes]]
"""The log's letter for the source of some lines, and the lines."""


class Lines:
    """Splits a stream of bytes into lines, at line feeds and after LINE_BYTES."""

    def __init__(self) -> None:
        self.rest = b""  # the start of a line without an end yet
        self._is_begun = False  # whether a piece of the current line was returned already

    def feed(self, chunk: bytes) -> list[bytes]:
        """Adds bytes; returns the lines that are complete now."""
        *whole, self.rest = (self.rest + chunk).split(b"\n")
        if whole and self._is_begun and not whole[0]:
            del whole[0]  # the end of a line whose text was returned already
            self._is_begun = False
        elif whole:
            self._is_begun = False
        if any(len(text) > LINE_BYTES for text in whole):
            whole = [piece for text in whole for piece in _pieces(text)]
        if len(self.rest) > LINE_BYTES:
            *given, self.rest = _pieces(self.rest)
            self._is_begun = True
            whole += given
        return whole

    def flush(self) -> list[bytes]:
        """Returns the rest, which has no end yet, as a line."""
        if not self.rest:
            return []
        rest, self.rest, self._is_begun = self.rest, b"", True
        return [rest]


class Budget:
    """The bytes that one log may accept, a token bucket. Times are monotonic seconds."""

    def __init__(self, now: float) -> None:
        self._bytes = float(BURST_BYTES)
        self._at = now

    def left(self, now: float) -> float:
        """Returns the bytes that are left; negative if more were spent than there were."""
        self._bytes = min(BURST_BYTES, self._bytes + (now - self._at) * RATE_BYTES)
        self._at = now
        return self._bytes

    def spend(self, texts: Sequence[bytes]) -> None:
        """Subtracts these lines."""
        self._bytes -= sum(map(len, texts)) + _PREFIX_BYTES * len(texts)


class Intake:
    """One stream. While its log's budget is used up, all output but the end is dropped."""

    def __init__(self, letter: bytes, budget: Budget) -> None:
        self._letter = letter
        self._budget = budget
        self._lines = Lines()
        self._held = b""
        self._left_out_bytes = 0
        self._remarked_bytes = 0  # in the last remark
        self._is_flooded = False

    @property
    def pending(self) -> bool:
        """Whether `flush` would return something."""
        return bool(self._lines.rest or self._held or self._left_out_bytes)

    def take(self, chunk: bytes, now: float) -> list[Entry]:
        """Adds `chunk`; returns what to write to the log now."""
        left = self._budget.left(now)
        if left <= 0:
            self._is_flooded = True
        if not self._is_flooded:
            return self._remark() + self._given(self._lines.feed(chunk))
        self._hold(chunk)
        # Waits for the budget of a second, as otherwise most of the log would be remarks.
        return self._let_in() if left >= RATE_BYTES else []

    def flush(self) -> list[Entry]:
        """Returns what to write at the end of the stream, or when nothing comes for a while."""
        return self._let_in() + self._given(self._lines.flush())

    def lose(self, entries: Sequence[Entry]) -> None:
        """Counts entries that could not be written as left out."""
        for letter, texts in entries:
            if letter == GATEWAY:
                self._left_out_bytes += self._remarked_bytes
            else:
                self._left_out_bytes += sum(len(text) + 1 for text in texts)

    def _hold(self, chunk: bytes) -> None:
        held = self._held + chunk
        self._held = held[-HELD_BYTES:]
        self._left_out_bytes += len(held) - len(self._held)

    def _let_in(self) -> list[Entry]:
        held, self._held, self._is_flooded = self._held, b"", False
        if not self._left_out_bytes:
            return self._given(self._lines.feed(held))
        begun = self._given(self._lines.flush())
        fragment, _, whole = held.partition(b"\n")
        if whole:
            self._left_out_bytes += len(fragment) + 1
            held = whole
        return begun + self._remark() + self._given(self._lines.feed(held))

    def _remark(self) -> list[Entry]:
        """Returns a line that says how many bytes were left out here, if any."""
        if not self._left_out_bytes:
            return []
        self._remarked_bytes, self._left_out_bytes = self._left_out_bytes, 0
        text = f"{self._remarked_bytes} bytes left out: {_WHY}"
        return [(GATEWAY, [text.encode()])]

    def _given(self, texts: list[bytes]) -> list[Entry]:
        self._budget.spend(texts)
        return [(self._letter, texts)] if texts else []


def _pieces(text: bytes) -> list[bytes]:
    """Splits `text` into pieces of at most LINE_BYTES, not within a UTF-8 character."""
    pieces = []
    while len(text) > LINE_BYTES:
        end = LINE_BYTES
        while end > LINE_BYTES - _UTF8_MAX_BYTES and text[end] & 0xC0 == 0x80:
            end -= 1
        pieces.append(text[:end])
        text = text[end:]
    return [*pieces, text]
