"""Base64 inside JSON strings, against the standard library's decoder."""

import base64
import binascii
import itertools
import json
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from moorage.uploads.reader import Base64Text, InvalidBase64

# RFC 4648 §4, as a whole text: groups of four, the last one padded.
_STANDARD = re.compile(
    rb"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?", re.DOTALL
)


def decoded(pieces: list[bytes]) -> bytes:
    text = Base64Text()
    out = b"".join([text.decode(piece) for piece in pieces])
    text.finish()
    return out


def expected(raw: bytes) -> bytes | None:
    """What JSON and base64 say of `raw` as the inside of a JSON string; None for a refusal."""
    try:
        text = json.loads(b'"%b"' % raw).encode()
    except ValueError:
        return None
    text = text.replace(b"\r", b"").replace(b"\n", b"")
    if not _STANDARD.fullmatch(text):
        return None
    return base64.b64decode(text, validate=True)


@given(st.binary(max_size=200), st.lists(st.integers(0, 300)))
def test_cuts_change_nothing(data: bytes, cuts: list[int]) -> None:
    text = base64.b64encode(data)
    edges = [0, *sorted(cut for cut in cuts if cut <= len(text)), len(text)]
    pieces = [text[start:end] for start, end in itertools.pairwise(edges)]
    assert decoded(pieces) == data


@given(
    st.lists(
        st.sampled_from(
            [
                "A",
                "b",
                "9",
                "+",
                "/",
                "=",
                "\\/",
                "\\n",
                "\\r",
                "\\u002b",
                "\\u002F",
                "\\u003d",
                "\\u000a",
                "\\t",
                "\\\\",
                "\\\\n",
                '\\"',
                "\\u0000",
                "-",
                "_",
                " ",
                "\\u0041",
            ]
        ),
        max_size=14,
    )
)
@example(["AAA=", "\\n", "AAAA"])
def test_accepts_what_json_and_base64_accept(tokens: list[str]) -> None:
    raw = "".join(tokens).encode()
    wanted = expected(raw)
    if wanted is None:
        with pytest.raises(InvalidBase64):
            decoded([token.encode() for token in tokens])
        with pytest.raises(InvalidBase64):
            decoded([raw])
    else:
        assert decoded([raw]) == wanted
        assert decoded([token.encode() for token in tokens]) == wanted


@pytest.mark.parametrize(
    "raw",
    [
        b"A",
        b"AA",
        b"AAA",
        b"AA=",
        b"A===",
        b"====",
        b"AA==AA==",
        b"AA=A",
        b"AA--",
        b"AA A",
        b"\xff",
        b"AAAA\n",
        b"\\\\n/AAA",  # an escaped backslash, then n and /
        b"AAA\\\\/",
        b"AA\x00=",
    ],
)
def test_anything_else_is_refused(raw: bytes) -> None:
    for pieces in ([raw], [raw[:2], raw[2:]], [raw[:4], raw[4:]]):
        with pytest.raises(InvalidBase64):
            decoded([piece for piece in pieces if piece])


def test_one_decoder_takes_text_after_text() -> None:
    text = Base64Text()
    assert text.decode(b"QQ==") == b"A"
    text.finish()
    assert text.decode(b"QkI=") == b"BB"
    text.finish()
    assert text.decode(b"QUJD") == binascii.a2b_base64("QUJD")
    text.finish()
