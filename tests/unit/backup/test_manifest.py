import msgspec
import pytest

from moorage.backup.archive import FORMAT, Manifest, read_manifest
from moorage.errors import BackupInvalid


def written(*paths: str, form: int = FORMAT) -> bytes:
    return msgspec.json.encode(
        {
            "format": form,
            "version": "0.1.0",
            "schema": "0003",
            "created_at": "2026-04-07T10:00:00.000Z",
            "data_dir": "/var/lib/moorage",
            "secrets_key": True,
            "entries": [{"path": path, "size": 1, "digest": "00"} for path in paths],
        }
    )


def test_manifest_says_what_is_in_a_backup() -> None:
    paths = (
        "moorage.db",
        "secrets.key",
        "apps/deployments/0b2c/disk.img",
        "apps/volumes/6f1c7a52-0f53-4c3c-9c6c-0d5fd5c2f1aa/disk.img",
        "proxy/certificates/acme-v02.api.letsencrypt.org-directory/wildcard_.example/a.crt",
    )
    manifest = read_manifest(written(*paths))
    assert isinstance(manifest, Manifest)
    assert tuple(entry.path for entry in manifest.entries) == paths


@pytest.mark.parametrize(
    "path",
    [
        *("", "/etc/passwd", "../moorage.db", "apps/../../etc/passwd", "apps//x", "apps/./x"),
        *("apps/.ssh/x", "nonces/lock", "dev.json", "sources/a/x", "apps/a\nb", "apps/ünder"),
        *("apps/" + "a/" * 16 + "b", "apps/" + "a" * 1024, "apps/x\0y", "apps/x/"),
        *("moorage.db/x", "moorage.db-wal"),
    ],
)
def test_path_that_no_gateway_keeps_is_refused(path: str) -> None:
    with pytest.raises(BackupInvalid):
        read_manifest(written("moorage.db", path))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{}",
        b"\xff",
        b"[" * 10_000,
        written("secrets.key"),  # no database
        written("moorage.db", "moorage.db"),
        written("moorage.db", form=FORMAT + 1),
    ],
)
def test_what_is_no_manifest_is_refused(content: bytes) -> None:
    with pytest.raises(BackupInvalid):
        read_manifest(content)
