"""What a person is told while a call waits to be tried again."""

from math import ceil

from moorage.cli.screen import say
from moorage.sdk.errors import ClientError, TooManyRequests

_NOTICED_SECONDS = 2


class WaitTeller:
    """Says on stderr that a call waits and why, if it is long, and each time only once."""

    def __init__(self) -> None:
        self._told = ""

    def __call__(self, seconds: float, because: ClientError) -> None:
        """Tells a wait of `seconds`."""
        if seconds < _NOTICED_SECONDS:
            return
        text = wait_text(seconds, because)
        if text != self._told:
            self._told = text
            say(text)


def wait_text(seconds: float, because: ClientError) -> str:
    """A wait, in a sentence."""
    if isinstance(because, TooManyRequests):
        return f"The gateway asks for fewer requests: waiting {ceil(seconds)} s."
    return f"Waiting {ceil(seconds)} s to try again: {because.message}"
