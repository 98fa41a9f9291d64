"""Reads what `docker buildx build --progress=plain` prints: which of it a build's log tells.

A line is `#5 [2/7] RUN npm ci` where a step begins, `#5 1.234 text` for its output, `#5 DONE 2.0s`,
`#5 CACHED` or `#5 ERROR: why` at its end. What follows the steps repeats the error.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field

_LINE = re.compile(r"#(\d{1,6}) (.*)\Z", re.DOTALL)
_STEP = re.compile(r"\[(?:[^\]]* )?\d+/\d+\] ([A-Z].*)\Z", re.DOTALL)
_OUTPUT = re.compile(r"\d+\.\d+ (.*)\Z", re.DOTALL)
_FAILED = re.compile(r"did not complete successfully: exit code: (\d+)")
_ERROR, _SOLVED = "ERROR: ", "failed to solve: "
_NOT_REACHED = "[internal] waiting for connection"
_LOST = "code = Unavailable"  # of gRPC: the connection ended


@dataclass
class Progress:
    """The progress of one build, line by line."""

    shown: Callable[[str], str | None]  # a step's line in the log; None for nothing
    failed_step: str = ""  # as in the Dockerfile
    exit_code: int | None = None  # of the failed step, if it is a command
    error: str = ""  # the builder's own words
    has_begun: bool = False  # the builder was reached
    _steps: dict[str, str] = field(default_factory=dict)  # by number; "" for the builder's own

    @property
    def is_lost(self) -> bool:
        """Whether the builder was not there, or has ended before the build."""
        return not self.has_begun or _LOST in self.error

    def read(self, line: str) -> list[str]:
        """Returns the lines that the log gets for one that was printed."""
        match = _LINE.match(line)
        if match is None:
            if line.startswith(_ERROR):
                self.error = line.removeprefix(_ERROR).removeprefix(_SOLVED)
            return []
        number, text = match.groups()
        if number not in self._steps:
            return self._begun(number, text)
        step = self._steps[number]
        if text.startswith(_ERROR):
            self._failed(step, text.removeprefix(_ERROR))
        if not step:
            return []
        if text == "CACHED":
            told = self.shown(step)
            return [] if told is None or step.startswith("FROM ") else ["(unchanged: kept)"]
        output = _OUTPUT.match(text)
        return [output[1].rstrip("\r").rpartition("\r")[2]] if output else []

    def _begun(self, number: str, text: str) -> list[str]:
        match = _STEP.match(text)
        self.has_begun = self.has_begun or (number != "0" and text != _NOT_REACHED)
        self._steps[number] = step = match[1] if match else ""
        told = self.shown(step) if step else None
        return [] if told is None else [told]

    def _failed(self, step: str, why: str) -> None:
        code = _FAILED.search(why)
        self.failed_step, self.error = step, why
        self.exit_code = int(code[1]) if code else None
