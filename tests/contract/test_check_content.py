"""What `moorage check` finds out about the content store."""

from pathlib import Path

import pytest

from moorage.content.store import DirectoryStore, open_content
from moorage.errors import ContentUnavailable
from moorage.operate.check import configuration
from moorage.operate.check.configuration import check_content
from moorage.settings import Settings, load_settings
from support.gateway.content_fixture import S3Server, answering, credentials_text

DENIED = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 12\r\nConnection: close\r\n\r\nAccessDenied"


def configured(**content: str) -> Settings:
    return load_settings(file=None, environ={}, **content)


@pytest.fixture
def credentials(s3_server: S3Server, tmp_path: Path) -> str:
    path = tmp_path / "credentials"
    path.touch(mode=0o600)
    path.write_text(credentials_text(s3_server.url))
    return str(path)


async def test_store_that_takes_all_is_good_and_nothing_stays_in_it(
    s3_server: S3Server, credentials: str, tmp_path: Path
) -> None:
    bucket, root = s3_server.bucket(), tmp_path / "store"
    root.mkdir()
    for settings in (
        configured(content_url=f"file://{root}"),
        configured(
            content_url=f"s3://{bucket}",
            content_credentials_file=credentials,
        ),
    ):
        (found,) = await check_content(settings)
        assert (found.name, found.ok, found.remedy) == ("content store", True, "")
        store = open_content(settings.content_url, settings.content_credentials_file)
        assert store is not None
        assert await store.items("checks") == []


async def test_nothing_is_tried_without_a_store() -> None:
    assert await check_content(configured()) == []


async def test_directory_that_is_not_mounted_is_told_and_no_reason_not_to_start(
    tmp_path: Path,
) -> None:
    (found,) = await check_content(configured(content_url=f"file://{tmp_path}/none"))
    assert (found.ok, found.blocks) == (False, False)
    assert "there is no directory" in found.detail
    assert "could not write" in found.detail
    assert "mounted" in found.remedy


async def test_bucket_that_is_not_there_is_told(s3_server: S3Server, credentials: str) -> None:
    settings = configured(
        content_url="s3://none-such",
        content_credentials_file=credentials,
    )
    (found,) = await check_content(settings)
    assert (found.ok, found.blocks) == (False, False)
    assert "could not write" in found.detail
    assert "content_url" in found.remedy


async def test_keys_that_may_not_write_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    async with answering(DENIED) as store:
        monkeypatch.setattr(configuration, "open_content", lambda *_: store)
        (found,) = await check_content(configured(content_url="s3://bucket/below"))
    assert not found.ok
    assert "could not write" in found.detail
    assert "put, get, list and delete what is below s3://bucket/below" in found.remedy


async def test_credentials_that_others_may_read_are_a_reason_not_to_start(credentials: str) -> None:
    Path(credentials).chmod(0o644)
    settings = configured(content_url="s3://bucket", content_credentials_file=credentials)
    (found,) = await check_content(settings)
    assert (found.ok, found.blocks) == (False, True)
    assert "chmod 600" in found.detail


@pytest.mark.parametrize(
    ("step", "said"), [("get", "read what was"), ("items", "list"), ("delete", "delete")]
)
async def test_each_thing_that_the_store_refuses_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, step: str, said: str
) -> None:
    async def refuse(*_: object) -> None:
        raise ContentUnavailable

    monkeypatch.setattr(DirectoryStore, step, refuse)
    (found,) = await check_content(configured(content_url=f"file://{tmp_path}"))
    assert f"could not {said}" in found.detail
