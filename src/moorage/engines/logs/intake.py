"""What comes out of a pipe, on its way into a log: cut into lines, and held to a rate."""

from collections.abc import Sequence

from moorage.engines.logs.store import GATEWAY, LINE_BYTES

RATE_BYTES = 1024 * 1024
"""How much a log takes in a second, for as long as one likes, as it lies on disk."""

BURST_BYTES = 4 * RATE_BYTES
"""How much it takes at once, after it took less for a while."""

HELD_BYTES = 64 * 1024
"""Of what is too much, the end, which is kept all the same: it often says why an app ended."""

_PREFIX_BYTES = 17  # of a line on disk: time, letter, blanks, line feed
_UTF8_LONGEST = 4
_WHY = "a log takes 1 MiB a second, 4 MiB at once, and no more than the disk has room for"

Entry = tuple[bytes, list[bytes]]
"""Whose lines, as the log's letter for them, and the lines."""


class Lines:
    """Cuts a stream of bytes into lines: at line feeds, and where one is longer than LINE_BYTES."""

    def __init__(self) -> None:
        self.rest = b""  # what has no end yet
        self._is_begun = False  # whether a piece of the present line was given already

    def feed(self, chunk: bytes) -> list[bytes]:
        """The lines that are whole now."""
        *whole, self.rest = (self.rest + chunk).split(b"\n")
        if whole and self._is_begun and not whole[0]:
            del whole[0]  # the end of a line whose text was given
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
        """What has no end yet, as a line."""
        if not self.rest:
            return []
        rest, self.rest, self._is_begun = self.rest, b"", True
        return [rest]


class Budget:
    """How much one log may take now: bytes, refilled with time. Times are monotonic seconds."""

    def __init__(self, now: float) -> None:
        self._bytes = float(BURST_BYTES)
        self._at = now

    def left(self, now: float) -> float:
        """What may still be spent; below zero after more was than there was."""
        self._bytes = min(BURST_BYTES, self._bytes + (now - self._at) * RATE_BYTES)
        self._at = now
        return self._bytes

    def spend(self, texts: Sequence[bytes]) -> None:
        """Take these lines off."""
        self._bytes -= sum(map(len, texts)) + _PREFIX_BYTES * len(texts)


class Intake:
    """One stream. While its log's budget is spent, all but the end of what comes is left out."""

    def __init__(self, letter: bytes, budget: Budget) -> None:
        self._letter = letter
        self._budget = budget
        self._lines = Lines()
        self._held = b""
        self._left_out_bytes = 0
        self._remarked_bytes = 0  # what the last remark told
        self._is_flooded = False

    @property
    def pending(self) -> bool:
        """Whether there is something that `flush` would give."""
        return bool(self._lines.rest or self._held or self._left_out_bytes)

    def take(self, chunk: bytes, now: float) -> list[Entry]:
        """What goes into the log now that `chunk` came."""
        left = self._budget.left(now)
        if left <= 0:
            self._is_flooded = True
        if not self._is_flooded:
            return self._remark() + self._given(self._lines.feed(chunk))
        self._hold(chunk)
        # Not before there is room for a second's worth, or most of the log would be remarks.
        return self._let_in() if left >= RATE_BYTES else []

    def flush(self) -> list[Entry]:
        """What goes into the log at the end of the stream, or when it rests."""
        return self._let_in() + self._given(self._lines.flush())

    def lose(self, entries: Sequence[Entry]) -> None:
        """Count as left out what could not be written."""
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
        """How much is missing at this place, if anything is."""
        if not self._left_out_bytes:
            return []
        self._remarked_bytes, self._left_out_bytes = self._left_out_bytes, 0
        text = f"{self._remarked_bytes} bytes left out: {_WHY}"
        return [(GATEWAY, [text.encode()])]

    def _given(self, texts: list[bytes]) -> list[Entry]:
        self._budget.spend(texts)
        return [(self._letter, texts)] if texts else []


def _pieces(text: bytes) -> list[bytes]:
    """`text` in pieces of at most LINE_BYTES, none cut amid a character of UTF-8."""
    pieces = []
    while len(text) > LINE_BYTES:
        end = LINE_BYTES
        while end > LINE_BYTES - _UTF8_LONGEST and text[end] & 0xC0 == 0x80:
            end -= 1
        pieces.append(text[:end])
        text = text[end:]
    return [*pieces, text]
