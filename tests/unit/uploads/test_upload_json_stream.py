"""The split of a body into contents and skeleton, against whole-document parsers."""

import itertools
import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moorage.errors import BodyTooLarge, InvalidField
from moorage.uploads.request import JsonStream


class Recorder:
    """Keeps the raw texts."""

    def __init__(self) -> None:
        self.texts: list[bytes] = []

    def begin(self) -> None:
        self.texts.append(b"")

    def write(self, piece: bytes) -> None:
        self.texts[-1] += piece

    def end(self) -> None:
        self.texts[-1] += b'"'  # so that a text without its end shows


def split(
    body: bytes, cuts: list[int] | None = None, *, skeleton_bytes: int = 1 << 20, depth: int = 32
) -> tuple[bytes, list[bytes]]:
    sink = Recorder()
    parser = JsonStream(sink, skeleton_bytes=skeleton_bytes, nesting_depth=depth, containers=20_000)
    edges = [0, *sorted(cut for cut in cuts or [] if cut < len(body)), len(body)]
    for start, end in itertools.pairwise(edges):
        parser.feed(body[start:end])
    return parser.finish(), sink.texts


def emptied(value: Any, at: tuple[str, ...] = (), *, texts: list[str]) -> Any:
    """`value` with streamed strings replaced, which are added to `texts`, found by their path."""
    if isinstance(value, dict):
        return {key: emptied(item, (*at, key), texts=texts) for key, item in value.items()}
    if isinstance(value, list):
        return [emptied(item, (*at, "*"), texts=texts) for item in value]
    if isinstance(value, str) and at in {("upload", "files", "*", "content"), ("upload", "data")}:
        texts.append(value)
        return ""
    return value


KEYS = st.sampled_from(
    ["upload", "files", "content", "data", "path", "type", "a", "con\u00e9", 'q"\\', "é", "", "}"]
)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-99, 10**12)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from(
        ["", "AAAA", "content", 'x"y', "\\", "{[", "a/b", "\n", "é\u2028", "\U0001f600"]
    )
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=20,
)
TEXTS = st.sampled_from(["", "AAAA", 'x"y', "\\", "a/b\n", "é", "content", "}]"])
FILE = st.dictionaries(
    st.sampled_from(["path", "content", "x", "files"]), TEXTS | VALUES, max_size=3
)
UPLOAD = st.fixed_dictionaries(
    {},
    optional={
        "type": SCALARS,
        "files": st.lists(FILE, max_size=4) | st.lists(FILE | VALUES, max_size=4) | VALUES,
        "data": TEXTS | VALUES,
        "upload": VALUES,
        "content": VALUES,
    },
)
DOCUMENTS = (
    st.fixed_dictionaries({}, optional={"a": VALUES, "upload": UPLOAD | VALUES, "files": VALUES})
    | VALUES
)
CUTS = st.lists(st.integers(0, 400), max_size=30)


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    """A valid document in one of its many spellings."""
    text = json.dumps(
        draw(DOCUMENTS),
        ensure_ascii=draw(st.booleans()),
        indent=draw(st.sampled_from([None, 0, 1])),
    )
    if draw(st.booleans()):
        text = text.replace('"content"', '"c\\u006fntent"').replace('"upload"', '"uplo\\u0061d"')
    if draw(st.booleans()):
        text = text.replace("/", "\\/")
    if draw(st.booleans()):
        text = text.replace(":", " \t:\r\n ").replace("\n", "\n ")
    return text.encode()


@given(bodies(), CUTS)
def test_texts_and_skeleton_are_those_of_the_whole_document(body: bytes, cuts: list[int]) -> None:
    try:
        whole = json.loads(body)
    except ValueError:  # the spelling above may reach into strings; that is the next test's matter
        return
    texts: list[str] = []
    rest = emptied(whole, texts=texts)
    skeleton, raw = split(body, cuts)
    assert json.loads(skeleton) == rest
    assert [json.loads(b'"' + text) for text in raw] == texts


@given(bodies(), CUTS, st.data())
def test_broken_document_never_has_a_sound_skeleton(
    body: bytes, cuts: list[int], data: st.DataObject
) -> None:
    at = data.draw(st.integers(0, len(body)))
    until = data.draw(st.integers(at, min(len(body), at + 3)))
    patch = data.draw(
        st.sampled_from([b"", b'"', b"\\", b"{", b"]", b",", b":", b"\xff", b"\n", b"0"])
    )
    broken = body[:at] + patch + body[until:]
    try:
        skeleton, raw = split(broken, cuts)
        rest = msgspec.json.decode(skeleton)
        decoded = [msgspec.json.decode(b'"' + text) for text in raw]
    except (InvalidField, msgspec.DecodeError, UnicodeDecodeError):
        return
    texts: list[str] = []
    assert rest == emptied(msgspec.json.decode(broken), texts=texts)
    if len(decoded) == len(texts):  # a key that is there twice shows in json alone
        assert decoded == texts
    assert len(decoded) >= len(texts)


@given(bodies(), CUTS, CUTS)
def test_cuts_change_nothing(body: bytes, cuts: list[int], others: list[int]) -> None:
    assert split(body, cuts) == split(body, others) == split(body, list(range(len(body))))


@pytest.mark.parametrize(
    "body",
    [
        '{"content": "AAAA"}',
        '{"files": [{"content": "AAAA"}]}',
        '{"upload": {"content": "AAAA"}}',
        '{"upload": {"files": {"content": "AAAA"}}}',
        '{"upload": {"files": [[{"content": "AAAA"}]]}}',
        '{"upload": {"files": [{"x": {"content": "AAAA"}}]}}',
        '{"upload": {"files": 1, "x": [{"content": "AAAA"}]}}',
        '{"upload": {"files": null, "x": {"data": "AAAA"}}}',
        '{"upload": [{"data": "AAAA"}]}',
        '{"x": {"upload": {"data": "AAAA"}}}',
        '[{"upload": {"data": "AAAA"}}]',
        '{"upload": {"data": ["AAAA"]}}',
        '{"upload": "data", "x": {"data": "AAAA"}}',
        '{"x": "{\\"upload\\":{\\"data\\":\\"AAAA\\"}}"}',
        '{"upload": {"data ": "AAAA", "Data": "AAAA"}}',
    ],
)
def test_same_key_elsewhere_is_ordinary_text(body: str) -> None:
    assert split(body.encode()) == (body.encode(), [])


def test_members_may_come_in_any_order() -> None:
    body = b'{"upload":{"files":[{"content":"QQ==","path":"a"}],"type":"files"},"months":1}'
    skeleton, texts = split(body)
    assert skeleton == b'{"upload":{"files":[{"content":"","path":"a"}],"type":"files"},"months":1}'
    assert texts == [b'QQ=="']


def test_escaped_key_is_the_same_key() -> None:
    body = rb'{"u\u0070load":{"files":[{"c\u006fntent":"QQ==","p\/":1}],"d\u0061ta":"QkI="}}'
    skeleton, texts = split(body)
    assert skeleton == body.replace(b"QQ==", b"").replace(b"QkI=", b"")
    assert texts == [b'QQ=="', b'QkI="']


def test_too_long_skeleton_is_refused_as_it_grows() -> None:
    start = b'{"description": "'
    parser = JsonStream(Recorder(), skeleton_bytes=100, nesting_depth=32, containers=20_000)
    parser.feed(start + b"x" * (100 - len(start)))
    with pytest.raises(BodyTooLarge):
        parser.feed(b"x")


def test_texts_do_not_count_as_skeleton() -> None:
    body = b'{"upload":{"data":"' + b"A" * 5000 + b'"}}'
    skeleton, texts = split(body, [30, 60], skeleton_bytes=len(b'{"upload":{"data":""}}'))
    assert skeleton == b'{"upload":{"data":""}}'
    assert texts == [b"A" * 5000 + b'"']


def test_nesting_is_bounded() -> None:
    split(b'{"a":' + b"[" * 31 + b"]" * 31 + b"}", depth=32)
    with pytest.raises(InvalidField, match="deeper than 32"):
        split(b'{"a":' + b"[" * 32 + b"]" * 32 + b"}", depth=32)


@pytest.mark.parametrize(
    "body",
    [b'{"upload":{"data":"AA', b'{"upload":{"data":"AA\\', b'{"upload":{"data":"\\u00"}}', b"}"],
)
def test_what_the_skeleton_cannot_show_is_refused_here(body: bytes) -> None:
    with pytest.raises(InvalidField, match="not valid JSON"):
        split(body)
