"""One body off the stream: what is received, what is refused, and that refusals leave nothing."""

import asyncio
import base64
import hashlib
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moorage.errors import (
    BodyTooLarge,
    InvalidField,
    InvalidRequest,
    MoorageError,
    UploadInvalid,
)
from moorage.uploads.reader import read_upload
from moorage.uploads.room import UploadLimits
from support.clients.parsing_in_place import InPlace
from support.clients.upload_bodies import contents, document, files_body, receive, received, stream

FILES = {"index.js": b"listen()", "a/b.bin": bytes(range(256)) * 2, "empty": b""}
ON_DISK = UploadLimits(memory_bytes=0)


def left(spool: Path) -> list[Path]:
    return list(spool.iterdir()) if spool.exists() else []


async def refusal(
    body: bytes, tmp_path: Path, kind: type[MoorageError], limits: UploadLimits | None = None
) -> Any:
    """The refusal of `body`, the same with contents in memory and on disk, with nothing left."""
    messages = []
    for spooled in (limits or UploadLimits(), ON_DISK if limits is None else limits):
        with pytest.raises(kind) as refused:
            await receive(body, tmp_path / "spool", limits=spooled)
        assert type(refused.value) is kind
        assert not left(tmp_path / "spool")
        messages.append(refused.value.message)
    assert messages[0] == messages[1]
    return refused.value


async def test_files_arrive_as_they_were_sent(tmp_path: Path) -> None:
    body = files_body(FILES)
    got = await receive(body, tmp_path / "spool")
    assert contents(got) == FILES
    assert got.digest == hashlib.sha256(body).hexdigest()
    assert not got.upload.on_disk
    assert not (tmp_path / "spool").exists()


async def test_request_comes_with_the_files(tmp_path: Path) -> None:
    sent = document(FILES) | {"displayName": "Hello", "settings": {"port": 8080}}
    got = await receive(json.dumps(sent).encode(), tmp_path)
    assert (got.request.unique_name, got.request.display_name) == ("hello", "Hello")
    assert got.request.settings.port == 8080


async def test_wrong_request_is_told_after_what_is_wrong_with_the_files(tmp_path: Path) -> None:
    sent = document(FILES) | {"displayName": 1}
    got = await receive(json.dumps(sent).encode(), tmp_path)
    with pytest.raises(InvalidField, match="displayName"):
        _ = got.request
    with pytest.raises(UploadInvalid, match=r"leads out"):
        await receive(json.dumps(document({"../a": b""}) | {"displayName": 1}).encode(), tmp_path)


async def test_tree_digest_is_that_of_paths_and_contents_alone(tmp_path: Path) -> None:
    async def digest(files: dict[str, bytes], **others: Any) -> str:
        got = await receive(json.dumps(document(files) | others).encode(), tmp_path)
        return got.tree_digest

    same = await digest(FILES)
    assert await digest(FILES, displayName="Other") == same
    assert len(same) == 64
    others = [
        {**FILES, "empty": b"1"},
        {"other.js": FILES["index.js"], **{k: v for k, v in FILES.items() if k != "index.js"}},
        {**FILES, "index.js": b"listen", "a/b.bin": b"()" + FILES["a/b.bin"]},
    ]
    assert len({same, *[await digest(other) for other in others]}) == 4


@given(
    st.lists(st.binary(max_size=300), min_size=1, max_size=4),
    st.integers(1, 100),
    st.sampled_from([0, 100, 10**6]),
)
def test_chunks_and_memory_change_nothing(
    tmp_path_factory: pytest.TempPathFactory, datas: list[bytes], size: int, memory_bytes: int
) -> None:
    spool = tmp_path_factory.getbasetemp() / "spool-of-chunks"
    files = {f"f{number}": data for number, data in enumerate(datas)}
    body = files_body(files)
    got = received(body, spool, size=size, limits=UploadLimits(memory_bytes=memory_bytes))
    assert contents(got) == files
    assert got.digest == hashlib.sha256(body).hexdigest()
    got.upload.close()
    assert not left(spool)


async def test_large_body_in_one_chunk_and_in_many_is_the_same(tmp_path: Path) -> None:
    files = {"a": bytes(range(256)) * 4000, "b": b"b" * 70_000, "c": b"c" * 1000, "d": b"d"}
    body = files_body(files)
    for size in (len(body), 65_536, 1000):
        got = await receive(body, tmp_path, size=size)
        assert contents(got) == files
        got.upload.close()
    assert not left(tmp_path)


async def test_base64_may_be_wrapped_and_escaped(tmp_path: Path) -> None:
    data = bytes(range(256)) * 300
    text = base64.encodebytes(data).decode().replace("\n", "\r\n")
    body = json.dumps({"upload": {"type": "files", "files": [{"content": text, "path": "a"}]}})
    got = await receive(body.replace("/", "\\/").encode(), tmp_path, size=777)
    assert contents(got) == {"a": data}


async def test_other_members_are_passed_over(tmp_path: Path) -> None:
    sent = document({"a": b"1"})
    sent["upload"] |= {"filename": None, "data": None, "extra": {"content": "not base64!"}}
    sent["upload"]["files"][0]["mode"] = 420
    got = await receive(json.dumps(sent).encode(), tmp_path)
    assert contents(got) == {"a": b"1"}


async def test_macos_leftovers_are_dropped(tmp_path: Path) -> None:
    got = await receive(files_body({"a": b"1", "b/.DS_Store": b"?"}), tmp_path)
    assert contents(got) == {"a": b"1"}
    with pytest.raises(InvalidField, match=r"upload\.files"):
        await receive(files_body({".DS_Store": b"?"}), tmp_path)


@pytest.mark.parametrize(
    ("upload", "field"),
    [
        (None, "upload"),
        ("x", "upload"),
        ([], "upload"),
        ({}, "upload.type"),
        ({"type": "tar", "data": "AAAA"}, "upload.type"),
        ({"type": None, "files": []}, "upload.type"),
        ({"type": "files"}, "upload.files"),
        ({"type": "files", "files": []}, "upload.files"),
        ({"type": "files", "files": {"path": "a", "content": "AAAA"}}, "upload.files"),
        ({"type": "files", "files": "AAAA"}, "upload.files"),
        ({"type": "files", "files": ["a"]}, "upload.files[0]"),
        ({"type": "files", "files": [{"path": "a", "content": ""}, {}]}, "upload.files[1].path"),
        ({"type": "files", "files": [{"path": 1, "content": ""}]}, "upload.files[0].path"),
        ({"type": "files", "files": [{"path": "a"}]}, "upload.files[0].content"),
        ({"type": "files", "files": [{"path": "a", "content": None}]}, "upload.files[0].content"),
        ({"type": "files", "files": [{"path": "a", "content": ["A"]}]}, "upload.files[0].content"),
        ({"type": "files", "files": [{"path": "a", "content": ""}], "data": ""}, "upload.data"),
        ({"type": "zip"}, "upload.data"),
        ({"type": "zip", "data": 1}, "upload.data"),
        ({"type": "zip", "data": "AAAA", "files": []}, "upload.files"),
        ({"type": "zip", "data": "AAAA", "filename": 1}, "upload.filename"),
    ],
)
async def test_wrong_structure_names_the_field(tmp_path: Path, upload: Any, field: str) -> None:
    refused = await refusal(json.dumps({"upload": upload}).encode(), tmp_path, InvalidField)
    assert refused.field == field


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b"null",
        b"[]",
        b'"upload"',
        b"{",
        b"\xef\xbb\xbf{}",
        b'{"upload":{"type":"files","files":[{"path":"a","content":"AAAA"}]}}x',
        b'{"upload":{"type":"files","files":[{"path":"a","content":"AAAA"}]}}{}',
        b'{"upload":{"type":"files","files":[{"path":"a","content":"AAAA"},]}}',
        b'{"upload":{"type":"files","files":[{"path":"a","content":"AAAA"}]}',
        b'{"upload":{"type":"files","files":[{"path":"a","content":"AAAA"}]]}',
        b'{"upload":{"type":"files","files":[{"path":"a","content":"AAAA',
        b'{"upload":{"type":"files","files":[{"path":"\xff","content":"AAAA"}]}}',
        b'{"upload":{"type":"files","files":[{"path":"\\ud800","content":"AAAA"}]}}',
        b'{"a":NaN,"upload":{"type":"files","files":[{"path":"a","content":"AAAA"}]}}',
        b'{"a":01,"upload":{"type":"files","files":[{"path":"a","content":"AAAA"}]}}',
        b'{"a":1e999,"upload":{"type":"files","files":[{"path":"a","content":"AAAA"}]}}',
        b"{'upload':{'type':'files','files':[{'path':'a','content':'AAAA'}]}}",
        b'{"upload":{"type":"files","files":[{"path":"a","content":"AAAA\\u00"}]}}',
    ],
)
async def test_anything_but_one_json_object_is_refused(tmp_path: Path, body: bytes) -> None:
    assert (await refusal(body, tmp_path, InvalidField)).field == "body"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"uniqueName"', b'"a":1,"a":1,"uniqueName"'),
        (b'"upload"', b'"upload":{"type":"zip"},"upload"'),
        (b'"files": [', b'"files":[],"files": ['),
        (b'"content"', b'"content":"QUFB","content"'),
        (b'"content"', b'"c\\u006fntent":"QUFB","content"'),
        (b'"path"', b'"path":"b","path"'),
        (b'"uniqueName"', b'"x":[{"y":{"z":0,"z":1}}],"uniqueName"'),
    ],
)
async def test_key_that_is_there_twice_is_refused(tmp_path: Path, old: bytes, new: bytes) -> None:
    body = files_body({"a": b"1"})
    assert body.replace(old, new, 1) != body
    refused = await refusal(body.replace(old, new, 1), tmp_path, InvalidField)
    assert "twice" in refused.message


@pytest.mark.parametrize(
    "text", ["A", "AAA", "AA==AA==", "-_-_", "AA A", "AAAA\t", "é", 'A"A', "\0"]
)
async def test_invalid_base64_names_the_file_wherever_its_path_stands(
    tmp_path: Path, text: str
) -> None:
    fine = {"path": "fine", "content": "AAAA"}
    for bad in ({"path": "bad", "content": text}, {"content": text, "path": "bad"}):
        for listed in ([bad, fine], [fine, bad]):
            body = json.dumps({"upload": {"type": "files", "files": listed}}).encode()
            refused = await refusal(body, tmp_path, UploadInvalid)
            assert refused.path == "bad"
            assert "base64" in refused.message


async def test_invalid_base64_of_an_archive_names_it(tmp_path: Path) -> None:
    upload = {"type": "zip", "data": "*", "filename": "my.zip"}
    refused = await refusal(json.dumps({"upload": upload}).encode(), tmp_path, UploadInvalid)
    assert refused.path == "my.zip"
    assert "base64" in refused.message


@pytest.mark.parametrize("path", ["../a", "/a", "a\\b", "a\0b", "", "C:/a", "a/./b"])
async def test_unsafe_path_is_refused_by_name(tmp_path: Path, path: str) -> None:
    body = files_body({"fine": b"x" * 5000, path: b"x"})
    assert (await refusal(body, tmp_path, UploadInvalid)).path == path


@pytest.mark.parametrize("pair", [("a", "a"), ("a", "A"), ("é", "e\u0301"), ("a", "a/b")])
async def test_paths_that_meet_are_refused(tmp_path: Path, pair: tuple[str, str]) -> None:
    body = files_body([(path, b"x") for path in pair])
    assert (await refusal(body, tmp_path, UploadInvalid)).path in pair


async def test_too_many_files_are_refused_before_the_last_arrives(tmp_path: Path) -> None:
    body = files_body({str(number): b"x" for number in range(5)})
    seen = 0

    async def counted() -> AsyncIterator[bytes]:
        nonlocal seen
        yield body + b" " * 20_000
        for _ in range(100):
            seen += 1
            yield b" " * 20_000

    limits = UploadLimits(files=4)
    with pytest.raises(UploadInvalid, match="more than 4 files"):
        await read_upload(
            counted(), content_length=None, limits=limits, spool_dir=tmp_path, parser=InPlace()
        )
    assert seen == 0
    assert not left(tmp_path)


async def test_declared_too_large_is_refused_unread(tmp_path: Path) -> None:
    touched = False

    async def untouched() -> AsyncIterator[bytes]:
        nonlocal touched
        touched = True
        yield b"{}"

    limits = UploadLimits(body_bytes=100)
    with pytest.raises(BodyTooLarge):
        await read_upload(
            untouched(), content_length=101, limits=limits, spool_dir=tmp_path, parser=InPlace()
        )
    assert not touched


async def test_body_may_be_as_large_as_the_limit_and_no_larger(tmp_path: Path) -> None:
    body = files_body({"a": b"x" * 100_000})
    for length in (None, len(body)):
        limits = UploadLimits(body_bytes=len(body))
        got = await read_upload(
            stream(body), content_length=length, limits=limits, spool_dir=tmp_path, parser=InPlace()
        )
        got.upload.close()
    limits = UploadLimits(body_bytes=len(body) - 1, memory_bytes=0)
    with pytest.raises(BodyTooLarge):
        await read_upload(
            stream(body), content_length=None, limits=limits, spool_dir=tmp_path, parser=InPlace()
        )
    assert not left(tmp_path)


async def test_too_much_besides_contents_is_too_large(tmp_path: Path) -> None:
    sent = document({"a": b"1"}) | {"description": "x" * 2000}
    limits = UploadLimits(skeleton_bytes=2000)
    await refusal(json.dumps(sent).encode(), tmp_path, BodyTooLarge, limits)


async def test_other_length_than_declared_is_refused(tmp_path: Path) -> None:
    body = files_body({"a": b"x" * 100_000})
    for declared, problem in (
        (len(body) + 1, f"ended after {len(body)} of the {len(body) + 1} bytes"),
        (len(body) - 1, "longer than"),
        (0, "longer than"),
        (-1, "negative"),
    ):
        with pytest.raises(InvalidRequest, match=problem):
            await read_upload(
                stream(body),
                content_length=declared,
                limits=ON_DISK,
                spool_dir=tmp_path,
                parser=InPlace(),
            )
        assert not left(tmp_path)


async def test_errors_of_the_stream_pass_through_and_leave_nothing(tmp_path: Path) -> None:
    body = files_body({"a": b"x" * 200_000})
    for error in (ConnectionResetError(), TimeoutError()):

        async def failing(error: Exception = error) -> AsyncIterator[bytes]:
            yield body[:150_000]
            raise error

        with pytest.raises(type(error)):
            await read_upload(
                failing(),
                content_length=len(body),
                limits=ON_DISK,
                spool_dir=tmp_path,
                parser=InPlace(),
            )
        assert not left(tmp_path)


async def test_cancelled_request_leaves_nothing(tmp_path: Path) -> None:
    body = files_body({"a": b"x" * 200_000})
    halfway = asyncio.Event()

    async def waiting() -> AsyncIterator[bytes]:
        yield body[:150_000]
        halfway.set()
        await asyncio.Event().wait()

    task = asyncio.ensure_future(
        read_upload(
            waiting(), content_length=None, limits=ON_DISK, spool_dir=tmp_path, parser=InPlace()
        )
    )
    await halfway.wait()
    assert left(tmp_path)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not left(tmp_path)


async def test_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from moorage.uploads.room import SpoolFile

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(SpoolFile, "append", full)
    with pytest.raises(OSError, match="No space left"):
        await receive(files_body({"a": b"x" * 200_000}), tmp_path, limits=ON_DISK)
    assert not left(tmp_path)


async def test_other_tasks_run_while_a_chunk_is_worked_on(tmp_path: Path) -> None:
    """A body that is there at once does not hold the loop until it is decoded."""
    body = files_body({"a": b"x" * 3_000_000})
    turns = 0

    async def ticking() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    ticker = asyncio.ensure_future(ticking())
    got = await receive(body, tmp_path, size=len(body))
    ticker.cancel()
    got.upload.close()
    assert turns >= len(body) // 65_536


@given(st.binary(max_size=60), st.data())
def test_damaged_body_is_refused_or_still_json_with_base64(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, data: st.DataObject
) -> None:
    """What is accepted, json and msgspec accept too, with the same contents."""
    spool = tmp_path_factory.getbasetemp() / "spool-of-bodies"
    body = bytearray(files_body({"a": content, "b/c": b"second"}))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(body) - 1))
        body[at] = data.draw(st.sampled_from(b'"\\{}[]:,=A0n/ \n\xc3\xff') | st.integers(0, 255))
    try:
        got = received(bytes(body), spool, size=data.draw(st.integers(1, 200)))
    except InvalidRequest:
        return
    files = json.loads(body)["upload"]["files"]
    assert msgspec.json.decode(bytes(body))["upload"]["files"] == files
    assert contents(got) == {file["path"]: plain(file["content"]) for file in files}


def plain(text: str) -> bytes:
    return base64.b64decode(text.replace("\r", "").replace("\n", ""), validate=True)


DENSE = {
    "brackets": b'{"x":[' + b"[]," * 15_000 + b"[]]}",
    "keys": b"{" + b'"upload":1,' * 9_000 + b'"a":1}',
    "escaped strings": b'{"x":[' + b'"\\n",' * 20_000 + b"1]}",
    "escapes in base64": b'{"upload":{"data":"' + b"\\u0041" * 20_000 + b'"}}',
    "small files": b'{"upload":{"files":[' + b'{"content":"AAAA"},' * 4_000 + b"{}]}}",
}


@pytest.mark.parametrize("name", DENSE)
async def test_no_body_holds_the_loop_for_long(name: str, tmp_path: Path) -> None:
    """Counted in calls between two turns of the loop, all of a body's bytes being there at once."""
    longest = count = 0

    def called(_frame: object, event: str, _argument: object) -> None:
        nonlocal count
        count += event.endswith("call")

    async def ticking() -> None:
        nonlocal longest, count
        while True:
            longest, count = max(longest, count), 0
            await asyncio.sleep(0)

    class Elsewhere(InPlace):
        async def describe(self, *_: Any) -> Any:
            raise UploadInvalid("parsed elsewhere")

    ticker = asyncio.ensure_future(ticking())
    sys.setprofile(called)
    try:
        with pytest.raises(UploadInvalid, match="elsewhere"):
            await receive(DENSE[name], tmp_path, size=len(DENSE[name]), parser=Elsewhere())
    finally:
        sys.setprofile(None)
        ticker.cancel()
    assert 0 < longest < (50_000 if name in ("brackets", "small files") else 8_000)
