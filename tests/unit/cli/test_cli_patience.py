"""What is said while a call waits."""

import pytest

from moorage.cli.connection import WaitTeller, wait_text
from moorage.sdk.errors import AnswerLost, ClientError, GatewayUnreachable, TooManyRequests


def too_many() -> TooManyRequests:
    return TooManyRequests(status=429, code="x", error="no", retryable=True, body={})


@pytest.mark.parametrize(
    ("seconds", "because", "text"),
    [
        (18.2, too_many(), "The gateway asks for fewer requests: waiting 19 s."),
        (
            3,
            GatewayUnreachable("http://g"),
            "Waiting 3 s to try again: no gateway answers at http://g",
        ),
    ],
)
def test_wait_in_a_sentence(seconds: float, because: ClientError, text: str) -> None:
    assert wait_text(seconds, because) == text


def test_long_wait_is_told_once_and_a_short_one_never(capsys: pytest.CaptureFixture[str]) -> None:
    tell = WaitTeller()
    for seconds in (1, 3, 3, 0.5, 4):
        tell(seconds, AnswerLost("lost"))
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.splitlines() == [
        "Waiting 3 s to try again: lost",
        "Waiting 4 s to try again: lost",
    ]
