"""A key is read from a file that only its owner may read, and is never told."""

from pathlib import Path

import pytest
from eth_account import Account

from moorage.chains.signing import SigningKey
from moorage.errors import ConfigurationInvalid
from moorage.payments.relay.relayer import key_in

KEY = "46" * 32


def key_file(directory: Path, text: str, *, mode: int = 0o600) -> Path:
    path = directory / "relayer.key"
    path.write_bytes(text.encode())
    path.chmod(mode)
    return path


def read(path: Path) -> SigningKey:
    return key_in(path, option="relayer_key_file")


@pytest.mark.parametrize("text", [KEY, f"0x{KEY}", f"{KEY}\n", f"  0x{KEY}\r\n"])
def test_key_is_read_as_people_write_it(tmp_path: Path, text: str) -> None:
    key = read(key_file(tmp_path, text))
    assert key.address == Account.from_key(KEY).address.lower()


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o777])
def test_file_that_others_may_touch_is_refused(tmp_path: Path, mode: int) -> None:
    with pytest.raises(ConfigurationInvalid, match="chmod 600"):
        read(key_file(tmp_path, KEY, mode=mode))


@pytest.mark.parametrize("mode", [0o600, 0o400])
def test_file_of_its_owner_alone_is_read(tmp_path: Path, mode: int) -> None:
    assert read(key_file(tmp_path, KEY, mode=mode)).address


@pytest.mark.parametrize(
    "text", ["", "hello", KEY[:-2], KEY + "46", "00" * 32, KEY * 100, "é" * 32]
)
def test_file_without_a_key_is_refused_without_showing_it(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigurationInvalid) as refused:
        read(key_file(tmp_path, text))
    assert "relayer.key" in refused.value.message
    assert not text or text not in refused.value.message


def test_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationInvalid, match="cannot be read"):
        read(tmp_path / "nothing")


def test_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationInvalid, match="cannot be read"):
        read(tmp_path)
