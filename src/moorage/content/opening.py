"""Opens the content store that the settings name."""

import configparser
import stat
from pathlib import Path
from urllib.parse import urlsplit

from moorage.content.directory import DirectoryStore
from moorage.content.store import ContentStore, check_key
from moorage.errors import ConfigurationInvalid

_KEYS = {"access_key_id": "aws_access_key_id", "secret_access_key": "aws_secret_access_key"}
_PLACE = {"region": "region", "endpoint": "endpoint_url"}


def open_content(address: str, credentials_file: str = "") -> ContentStore | None:
    """Returns the store of `content_url`; None where each gateway keeps its files.

    Raises ConfigurationInvalid.
    """
    if not address:
        return None
    url = urlsplit(address)
    if url.scheme == "file":
        return DirectoryStore(Path(url.path))
    prefix = url.path.strip("/")
    try:
        if prefix:
            check_key(prefix)
    except ValueError as error:
        raise ConfigurationInvalid(f"content_url: {error}") from error
    from moorage.content.s3 import S3Store  # noqa: PLC0415  (20 ms that one process does not need)

    found = credentials_in(Path(credentials_file)) if credentials_file else {}
    return S3Store(
        url.netloc,
        prefix=prefix,
        endpoint=found.get("endpoint", ""),
        region=found.get("region", ""),
        credentials=found or None,
    )


def credentials_in(file: Path) -> dict[str, str]:
    """Returns what a file as AWS's tools have it says of a bucket. Raises ConfigurationInvalid.

    It is for its owner's eyes only. Its section is `[default]`, with the two keys at least.
    """
    parser = configparser.ConfigParser(interpolation=None)
    try:
        mode = file.stat().st_mode
        parser.read_string(file.read_text())
        section = parser["default"]
        found = {ours: section[theirs] for ours, theirs in _KEYS.items()}
        found |= {ours: section[theirs] for ours, theirs in _PLACE.items() if theirs in section}
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
