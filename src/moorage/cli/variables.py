"""Reads variables from the command line, so that nobody has to type a secret."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import BinaryIO

from moorage.sdk.errors import ClientMisconfigured


class VariableReader:
    """Reads `NAME=VALUE`, `NAME=@FILE`, `NAME=-` and `NAME`, for one run of a command.

    `environment` is where a `NAME` alone is looked up, `stdin` what a `-` takes whole, once.
    """

    def __init__(self, environment: Mapping[str, str], stdin: BinaryIO) -> None:
        self._environment = environment
        self._stdin = stdin
        self._piped: str | None = None  # the variable that took standard input

    def read(self, texts: Iterable[str], *, of: str = "") -> dict[str, str]:
        """The variables by name; `of` is the flag they came with, if one did.

        Raises ClientMisconfigured, which names the variable and never shows what it holds.
        """
        return dict(self._read(text, of and f"{of} ") for text in texts)

    def _read(self, text: str, before: str) -> tuple[str, str]:
        name, equals, value = text.partition("=")
        shown = f"{before}{name}"
        if not equals:
            if name not in self._environment:
                raise ClientMisconfigured(f"{shown}: it is not set here; write {name}=VALUE")
            return name, self._environment[name]
        if value == "-":
            return name, _text(shown, self._take_stdin(shown))
        if value.startswith("@"):
            return name, _text(shown, _content(shown, Path(value[1:])))
        return name, value

    def _take_stdin(self, shown: str) -> bytes:
        if self._piped is not None:
            raise ClientMisconfigured(f"{shown}: {self._piped} has taken standard input already")
        self._piped = shown
        return self._stdin.read()


def _content(shown: str, path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ClientMisconfigured(f"{shown}: {path} cannot be read: {error.strerror}") from error


def _text(shown: str, content: bytes) -> str:
    """What a file or a pipe holds, without the last line's end."""
    try:
        return content.decode().removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError:
        raise ClientMisconfigured(f"{shown}: its value is not UTF-8 text") from None
