"""What passes between the gateway and its parsers: errors keep what they say, within bounds."""

import msgspec
import pytest

from moorage.errors import (
    InvalidField,
    InvalidRequest,
    PlanNotFound,
    RuntimeUnsupported,
    UploadInvalid,
)
from moorage.parsers.job import CurrentFile, Refusal, error_of, refusal_of, shared_memory

ERRORS = [
    InvalidField("settings.port", "must be 1–65535"),
    UploadInvalid("is there twice", path="a/b.js"),
    UploadInvalid("the archive is empty"),
    RuntimeUnsupported("settings.runtime", "is none of ours"),
    PlanNotFound("No app was found.", looked_for=("go.mod", "main.go")),
    InvalidRequest("It is wrong."),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_refusal_is_the_same_error_again(error: InvalidRequest) -> None:
    sent = msgspec.msgpack.encode(refusal_of(error))
    again = error_of(msgspec.msgpack.decode(sent, type=Refusal))
    assert type(again) is type(error)
    assert again.message == error.message
    assert vars(again) == vars(error)


def test_refusal_is_bounded_whatever_it_repeats() -> None:
    long = "\ud800" * 1_000_000
    for error in (
        UploadInvalid(long, path=long),
        InvalidField(long, long),
        PlanNotFound(long, looked_for=(long,) * 1_000),
    ):
        assert len(msgspec.msgpack.encode(refusal_of(error))) < 100_000


def test_place_tells_what_was_said_last_and_bears_anything() -> None:
    memory = shared_memory()
    ours, theirs = CurrentFile(memory), CurrentFile(memory)
    assert ours.read() is None
    theirs.write("src/Cargo.toml")
    assert ours.read() == "src/Cargo.toml"
    theirs.write("é" * 3_000)
    said = ours.read()
    assert said is not None
    assert 500 <= len(said) <= 1024
    theirs.write("")
    assert ours.read() is None
