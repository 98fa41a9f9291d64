"""A gateway's encrypted backups in a store: what is kept, what is opened, what is refused."""

import io
import os
import shutil
import subprocess
from pathlib import Path

import msgspec
import pytest
from pyrage import decrypt, encrypt
from pyrage.x25519 import Identity

from moorage.backup.archive import FORMAT, NAME, Manifest, ManifestEntry, digest_of
from moorage.backup.encryption import decrypt as decrypt_stream
from moorage.backup.encryption import identities_in, new_identity
from moorage.backup.offsite import MIN_KEPT, Folder, Stored, folder_of
from moorage.content.store import DirectoryStore
from moorage.errors import BackupFailed, BackupInvalid
from moorage.failpoints import armed

GATEWAY, OTHER = "a1" * 16, "b2" * 16
MADE = "2026-04-07T10:00:00.000Z"
NAMED = "20260407t100000.000z.tar"
DAY_SECONDS = 86_400


@pytest.fixture
def identity() -> Identity:
    return new_identity()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    made = tmp_path / "store"
    made.mkdir()
    return made


@pytest.fixture
def folder(root: Path) -> Folder:
    return Folder(store=DirectoryStore(root), name=folder_of(GATEWAY))


@pytest.fixture
def target(tmp_path: Path) -> Path:
    made = tmp_path / "target"
    made.mkdir()
    return made


def staged(tmp_path: Path, *, made_at: str = MADE, gateway: str = GATEWAY) -> tuple[Path, Manifest]:
    """What a backup is made of: half a megabyte of a database, and its manifest."""
    directory = tmp_path / "staged"
    directory.mkdir(exist_ok=True)
    database = directory / "moorage.db"
    database.write_bytes(b"SECRET".ljust(16) + os.urandom(500_000))
    manifest = Manifest(
        format=FORMAT,
        version="0.1.0",
        schema="0003",
        created_at=made_at,
        data_dir="/var/lib/moorage",
        secrets_key=False,
        entries=(
            ManifestEntry(
                path="moorage.db", size=database.stat().st_size, digest=digest_of(database)
            ),
        ),
        gateway=gateway,
    )
    (directory / NAME).write_bytes(msgspec.json.encode(manifest))
    return directory, manifest


def stored_at(root: Path, stored: Stored) -> Path:
    return root / folder_of(GATEWAY) / stored.name


async def test_what_is_sent_comes_back_and_tells_nothing_without_its_key(
    folder: Folder, root: Path, target: Path, tmp_path: Path, identity: Identity
) -> None:
    directory, manifest = staged(tmp_path)
    stored = await folder.put(directory, manifest, identity.to_public())
    path = stored_at(root, stored)
    assert stored.name.startswith(NAMED)
    assert stored.size == path.stat().st_size
    content = path.read_bytes()
    assert content.startswith(b"age-encryption.org/v1\n-> X25519 ")
    assert b"moorage" not in content
    assert str(identity.to_public()).encode() not in content

    assert await folder.get("", target, [new_identity(), identity]) == manifest
    assert (target / "moorage.db").read_bytes() == (directory / "moorage.db").read_bytes()


async def test_age_decrypts_it_to_an_archive_that_tar_reads(
    folder: Folder, root: Path, tmp_path: Path, identity: Identity
) -> None:
    """Whoever has lost the gateway's program still has the backup."""
    stored = await folder.put(*staged(tmp_path), identity.to_public())
    plain = decrypt(stored_at(root, stored).read_bytes(), [identity])
    program = "zstd" if stored.name.endswith(".zst.age") else "gzip"
    unpacked = subprocess.run([program, "-dc"], input=plain, capture_output=True, check=True)
    listed = subprocess.run(["tar", "-t"], input=unpacked.stdout, capture_output=True, check=True)
    assert listed.stdout.decode().split() == [NAME, "moorage.db"]


@pytest.mark.parametrize("cut", [0, 10, 150, 65_536 + 200, -17, -1])
async def test_backup_cut_short_is_refused(
    folder: Folder, root: Path, target: Path, tmp_path: Path, identity: Identity, cut: int
) -> None:
    stored = await folder.put(*staged(tmp_path), identity.to_public())
    path = stored_at(root, stored)
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(BackupInvalid):
        await folder.get(stored.name, target, [identity])


CHUNK = 65_552


@pytest.mark.parametrize("left", [0, 100, CHUNK, CHUNK + 1, 2 * CHUNK, 3 * CHUNK])
def test_stream_cut_short_is_not_taken_for_the_whole(identity: Identity, left: int) -> None:
    """At the end of a chunk, where each byte that is left is genuine, and within one."""
    header = len(encrypt(b"", [identity.to_public()])) - 16
    cut = encrypt(b"x" * 200_000, [identity.to_public()])[: header + left]
    with pytest.raises(BackupInvalid):
        decrypt_stream(io.BytesIO(cut), io.BytesIO(), [identity])


@pytest.mark.parametrize("place", [5, 100, 70_000, -20])
async def test_changed_byte_is_refused(
    folder: Folder, root: Path, target: Path, tmp_path: Path, identity: Identity, place: int
) -> None:
    stored = await folder.put(*staged(tmp_path), identity.to_public())
    content = bytearray(stored_at(root, stored).read_bytes())
    content[place] ^= 1
    stored_at(root, stored).write_bytes(content)
    with pytest.raises(BackupInvalid):
        await folder.get(stored.name, target, [identity])


async def test_another_key_opens_nothing(
    folder: Folder, target: Path, tmp_path: Path, identity: Identity
) -> None:
    stored = await folder.put(*staged(tmp_path), identity.to_public())
    with pytest.raises(BackupInvalid, match="No matching keys"):
        await folder.get(stored.name, target, [new_identity()])
    assert list(target.iterdir()) == []


async def test_old_backup_under_a_new_name_is_refused(
    folder: Folder, root: Path, target: Path, tmp_path: Path, identity: Identity
) -> None:
    stored = await folder.put(*staged(tmp_path), identity.to_public())
    newer = stored.name.replace("20260407", "20260408")
    stored_at(root, stored).rename(stored_at(root, stored).with_name(newer))
    with pytest.raises(BackupInvalid, match=MADE):
        await folder.get("", target, [identity])


async def test_newest_is_not_one_that_a_clock_ahead_has_named(
    folder: Folder, root: Path, target: Path, tmp_path: Path, identity: Identity
) -> None:
    ahead = await folder.put(*staged(tmp_path, made_at="2999" + MADE[4:]), identity.to_public())
    os.utime(stored_at(root, ahead), (0, 0))
    await folder.put(*staged(tmp_path), identity.to_public())
    assert (await folder.get("", target, [identity])).created_at == MADE


async def test_who_finds_the_newest_spoilt_is_told_what_else_there_is(
    folder: Folder, root: Path, target: Path, tmp_path: Path, identity: Identity
) -> None:
    good = await folder.put(*staged(tmp_path), identity.to_public())
    stored_at(root, good).with_name("20260408t100000.000z.tar.zst.age").write_bytes(b"junk" * 999)
    with pytest.raises(BackupInvalid, match=f"Before it: {good.name}"):
        await folder.get("", target, [identity])


async def test_backup_of_another_gateway_in_the_folder_is_refused(
    folder: Folder, root: Path, target: Path, tmp_path: Path, identity: Identity
) -> None:
    stored = await folder.put(*staged(tmp_path, gateway=OTHER), identity.to_public())
    with pytest.raises(BackupInvalid, match=OTHER):
        await folder.get(stored.name, target, [identity])


async def test_what_is_encrypted_and_no_archive_is_refused(
    folder: Folder, root: Path, target: Path, identity: Identity
) -> None:
    (root / folder.name).mkdir()
    name = f"{NAMED}.gz.age"
    (root / folder.name / name).write_bytes(encrypt(b"x" * 300_000, [identity.to_public()]))
    with pytest.raises(BackupInvalid):
        await folder.get(name, target, [identity])


async def test_nothing_is_stored_when_a_file_cannot_be_packed(
    folder: Folder, root: Path, tmp_path: Path, identity: Identity
) -> None:
    directory, manifest = staged(tmp_path)
    (directory / "moorage.db").unlink()
    with pytest.raises(BackupFailed, match="tar"):
        await folder.put(directory, manifest, identity.to_public())
    assert await folder.backups() == []
    assert [path for path in root.rglob("*") if path.is_file()] == []


def aged(folder: Folder, root: Path, days: int) -> Path:
    """A backup that the store took so many days before it was last written to."""
    (root / folder.name).mkdir(exist_ok=True)
    path = root / folder.name / f"2026{days // 28 + 1:02}{days % 28 + 1:02}t000000.000z.tar.gz.age"
    path.write_bytes(b"old")
    at = path.stat().st_mtime - days * DAY_SECONDS
    os.utime(path, (at, at))
    return path


async def test_backups_older_than_the_days_are_deleted(
    folder: Folder, root: Path, tmp_path: Path, identity: Identity
) -> None:
    days = [1, 2, 3, 5, 8, 13, 20, 29, 31, 40, 90]
    paths = {each: aged(folder, root, each) for each in days}
    stored = await folder.put(*staged(tmp_path), identity.to_public())
    assert await folder.prune(stored, keep_days=30) == 3
    assert [each for each in days if not paths[each].exists()] == [31, 40, 90]
    assert await folder.prune(stored, keep_days=30) == 0


async def test_seven_backups_are_never_deleted(
    folder: Folder, root: Path, tmp_path: Path, identity: Identity
) -> None:
    paths = {each: aged(folder, root, each) for each in range(100, 109)}
    stored = await folder.put(*staged(tmp_path), identity.to_public())
    assert await folder.prune(stored, keep_days=30) == 3
    assert [each for each in paths if paths[each].exists()] == [100, 101, 102, 103, 104, 105]
    assert MIN_KEPT == 7


async def test_only_what_is_named_as_this_gateways_backup_is_deleted(
    folder: Folder, root: Path, tmp_path: Path, identity: Identity
) -> None:
    old = [aged(folder, root, days) for days in range(100, 120)]
    foreign = [
        root / folder_of(OTHER) / old[0].name,
        root / folder.name / "notes.txt",
        root / folder.name / "sub" / old[0].name,
        root / "moorage-a1" / old[0].name,
        root / old[0].name,
    ]
    for path in foreign:
        path.parent.mkdir(exist_ok=True)
        shutil.copy2(old[-1], path)
    stored = await folder.put(*staged(tmp_path), identity.to_public())
    assert await folder.prune(stored, keep_days=1) == len(old) - (MIN_KEPT - 1)
    assert [path for path in foreign if not path.exists()] == []


async def test_nothing_is_deleted_unless_the_new_one_is_listed_as_it_was_stored(
    folder: Folder, root: Path, tmp_path: Path, identity: Identity
) -> None:
    old = [aged(folder, root, days) for days in range(100, 120)]
    stored = await folder.put(*staged(tmp_path), identity.to_public())
    for missing in (stored._replace(size=stored.size + 1), stored._replace(name=f"x{stored.name}")):
        with pytest.raises(BackupFailed, match="does not list"):
            await folder.prune(missing, keep_days=1)
    assert all(path.exists() for path in old)


async def test_pruning_that_was_interrupted_is_resumed_by_the_next(
    folder: Folder, root: Path, tmp_path: Path, identity: Identity
) -> None:
    for days in range(100, 120):
        aged(folder, root, days)
    stored = await folder.put(*staged(tmp_path), identity.to_public())

    def interrupt(_: str) -> None:
        raise InterruptedError

    with armed(interrupt), pytest.raises(InterruptedError):
        await folder.prune(stored, keep_days=1)
    assert len(await folder.backups()) == 20
    await folder.prune(stored, keep_days=1)
    assert len(await folder.backups()) == MIN_KEPT


def test_identities_are_read_from_the_files_of_age_keygen(
    tmp_path: Path, identity: Identity
) -> None:
    file = tmp_path / "key"
    file.touch(mode=0o600)
    other = new_identity()
    file.write_text(f"# created: 2026-04-07\n# public key: age1…\n{identity}\n\n{other}\n")
    assert [str(each) for each in identities_in(file)] == [str(identity), str(other)]
    for text in ("", "# nothing\n", "AGE-SECRET-KEY-1QQQ\n", str(identity.to_public())):
        file.write_text(text)
        with pytest.raises(BackupFailed, match="AGE-SECRET-KEY-1"):
            identities_in(file)
    with pytest.raises(BackupFailed, match="cannot be read"):
        identities_in(tmp_path / "none")


def test_private_key_that_others_may_read_is_refused(tmp_path: Path, identity: Identity) -> None:
    file = tmp_path / "key"
    file.write_text(str(identity))
    for mode in (0o640, 0o604, 0o660):
        file.chmod(mode)
        with pytest.raises(BackupFailed, match="chmod 600"):
            identities_in(file)


def test_header_that_does_not_end_is_refused_at_once(identity: Identity) -> None:
    """The library would read a header of a megabyte for half a minute."""
    begun = encrypt(b"", [identity.to_public()]).partition(b"--- ")[0]
    source = io.BytesIO(begun + (b"A" * 64 + b"\n") * 16_000)
    with pytest.raises(BackupInvalid, match="header"):
        decrypt_stream(source, io.BytesIO(), [identity])
    assert source.tell() < 65_536
