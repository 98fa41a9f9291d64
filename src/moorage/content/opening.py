"""Opens the content store that the settings name."""

import configparser
import stat
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from moorage.content.directory import DirectoryStore
from moorage.content.store import ContentStore, check_key
from moorage.errors import ConfigurationInvalid

_NAMES = {"access_key_id": "aws_access_key_id", "secret_access_key": "aws_secret_access_key"}


class ContentSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Each under its name in `moorage.settings`, which documents it."""

    content_url: str
    content_endpoint: str
    content_region: str
    content_credentials_file: str


def open_content(settings: ContentSettings) -> ContentStore | None:
    """Returns the store; None where each gateway keeps its files. Raises ConfigurationInvalid."""
    if not settings.content_url:
        return None
    url = urlsplit(settings.content_url)
    if url.scheme == "file":
        return DirectoryStore(Path(url.path))
    prefix = url.path.strip("/")
    try:
        if prefix:
            check_key(prefix)
    except ValueError as error:
        raise ConfigurationInvalid(f"content_url: {error}") from error
    from moorage.content.s3 import S3Store  # noqa: PLC0415  (20 ms that one process does not need)

    file = settings.content_credentials_file
    return S3Store(
        url.netloc,
        prefix=prefix,
        endpoint=settings.content_endpoint,
        region=settings.content_region,
        credentials=credentials_in(Path(file)) if file else None,
    )


def credentials_in(file: Path) -> dict[str, str]:
    """Returns the keys in a file as AWS's tools have it. Raises ConfigurationInvalid.

    It is for its owner's eyes only. Its section is `[default]`.
    """
    parser = configparser.ConfigParser(interpolation=None)
    try:
        mode = file.stat().st_mode
        parser.read_string(file.read_text())
        found = {ours: parser["default"][theirs] for ours, theirs in _NAMES.items()}
    except (OSError, UnicodeDecodeError, KeyError, configparser.Error):
        raise ConfigurationInvalid(
            f"content_credentials_file: {file} must have a section [default] with "
            "aws_access_key_id and aws_secret_access_key."
        ) from None
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise ConfigurationInvalid(
            f"content_credentials_file: others may read {file}; `chmod 600 {file}`."
        )
    return found
