"""A gateway's backups go to a real S3 server and come back, whatever fails on the way."""

import asyncio
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from textwrap import dedent

import pytest

from moorage.backup.archive import Manifest
from moorage.backup.encryption import new_identity
from moorage.content.s3 import S3Store
from moorage.errors import BackupFailed, BackupInvalid, ConfigurationInvalid
from moorage.gateway.data_directory import KEY_FILE, gateway_id
from moorage.operate.backup import Unpack, back_up, restore
from moorage.operate.offsite import drill, prove, saved_at, send
from moorage.records.project import Variables
from moorage.settings import Settings, load_settings
from moorage.storage.apps import projects
from moorage.storage.opening import DATABASE, open_database
from moorage.storage.operation import audit_log
from moorage.storage.operation.audit_log import Upkeep, UpkeepDone
from moorage.storage.vault import Vault
from support.books.records_fixture import ALICE, add_project, fund
from support.gateway.content_fixture import KEYS, S3Server, credentials_text, server_answering
from support.gateway.gateway_fixture import moorage

pytestmark = pytest.mark.root

OWN = new_identity()
KEY = "11" * 32


async def fill(path: Path) -> None:
    """A wallet that paid, and a project with a variable."""
    db = open_database(path)
    await fund(db, ALICE, 3_000_000)
    project = await add_project(db, ALICE, "hello")
    text = Vault([bytes.fromhex(KEY)]).seal(Variables(build={}, run={"A": "b"}), project.id)
    async with db.transaction(durable=False) as tx:
        await projects.configure(tx, project.id, variables=text, health_path="/")
    db.close()


@pytest.fixture
def data_dir(db_path: Path) -> Path:
    asyncio.run(fill(db_path))
    (db_path.parent / KEY_FILE).write_text(f"{KEY}\n")
    (db_path.parent / KEY_FILE).chmod(0o600)
    return db_path.parent


class Offsite:
    """A bucket, its keys in a file, and the operator's private key in another."""

    def __init__(self, directory: Path, server: S3Server) -> None:
        self.bucket = server.bucket()
        self.url = f"s3://{self.bucket}/saved"
        self.store = S3Store(self.bucket, prefix="saved", endpoint=server.url, credentials=KEYS)
        self.credentials = directory / "s3"
        self.identity = directory / "identity"
        self.credentials.write_text(credentials_text(server.url))
        self.identity.write_text(f"{OWN}\n")
        for file in (self.credentials, self.identity):
            file.chmod(0o600)

    def saved(self, address: str, *, identity: Path | None = None) -> Unpack:
        """What unpacks a backup with the operator's key."""
        return saved_at(
            address, identity=identity or self.identity, credentials_file=str(self.credentials)
        )

    def objects(self, data_dir: Path) -> list[str]:
        """The names of the gateway's backups."""
        items = asyncio.run(self.store.items(f"moorage-{gateway_id(data_dir)}"))
        return [item.key.rpartition("/")[2] for item in items]


@pytest.fixture
def offsite(tmp_path_factory: pytest.TempPathFactory, s3_server: S3Server) -> Offsite:
    return Offsite(tmp_path_factory.mktemp("operator"), s3_server)


def settings_of(data_dir: Path, offsite: Offsite, **changed: str | int) -> Settings:
    given: dict[str, str | int] = {
        "data_dir": str(data_dir),
        "backup_to": offsite.url,
        "backup_recipient": str(OWN.to_public()),
        "backup_credentials_file": str(offsite.credentials),
    }
    return load_settings(file=None, environ={}, **(given | changed))


async def last(data_dir: Path) -> dict[Upkeep, UpkeepDone]:
    db = open_database(data_dir / DATABASE)
    try:
        return await audit_log.last_upkeep(db)
    finally:
        db.close()


def noted(data_dir: Path, kind: Upkeep) -> UpkeepDone:
    return asyncio.run(last(data_dir))[kind]


def test_backup_in_a_bucket_is_proved_and_restored_with_the_operators_key_alone(
    data_dir: Path, offsite: Offsite, tmp_path_factory: pytest.TempPathFactory
) -> None:
    sent = send(settings_of(data_dir, offsite), offsite.url, with_key=False)
    assert offsite.objects(data_dir) == [sent.stored.name]
    done = noted(data_dir, Upkeep.OFFSITE)
    assert (done.size_bytes, done.problem, done.at_ms > 0) == (sent.stored.size, "", True)
    assert list(data_dir.glob(".backup-*")) == []

    folder = sent.address.rpartition("/")[0]
    for address in (sent.address, folder, f"{folder}/"):
        proof = prove(offsite.saved(address))
        assert proof.problem == "", proof.findings
        assert (proof.wallets, proof.balances, proof.saved.key_problem) == (1, 3_000_000, "")
    restored = tmp_path_factory.mktemp("elsewhere") / "data"
    assert restore(offsite.saved(folder), restored).manifest == sent.saved.manifest
    assert (restored / KEY_FILE).read_text() == f"{KEY}\n"

    other = offsite.identity.with_name("other")
    other.write_text(f"{new_identity()}\n")
    other.chmod(0o600)
    with pytest.raises(BackupInvalid, match="No matching keys"):
        restore(offsite.saved(folder, identity=other), restored.with_name("none"))
    assert not restored.with_name("none").exists()


def test_drill_on_the_machine_leaves_a_backup_and_no_key_that_opens_it_here(
    data_dir: Path, offsite: Offsite
) -> None:
    proof = drill(settings_of(data_dir, offsite), with_key=False)
    assert (proof.problem, proof.wallets) == ("", 1)
    (name,) = offsite.objects(data_dir)
    assert noted(data_dir, Upkeep.DRILL).problem == ""
    assert noted(data_dir, Upkeep.OFFSITE).size_bytes > 0
    assert list(data_dir.glob(".backup-*")) == []
    texts = [path.read_bytes() for path in data_dir.rglob("*") if path.is_file()]
    assert not [text for text in texts if b"AGE-SECRET-KEY" in text]

    address = f"{offsite.url}/moorage-{gateway_id(data_dir)}/{name}"
    source = offsite.saved(address)
    assert prove(source).problem == ""


def test_drill_takes_no_room_for_which_the_gateway_would_end_apps(
    data_dir: Path, offsite: Offsite
) -> None:
    free_mib = shutil.disk_usage(data_dir).free // (1024 * 1024)
    settings = settings_of(data_dir, offsite, disk_reserve_mib=free_mib + 1)
    with pytest.raises(BackupFailed, match="another machine"):
        drill(settings, with_key=False)
    assert len(offsite.objects(data_dir)) == 1
    assert "disk_reserve_mib" in noted(data_dir, Upkeep.DRILL).problem


def spoil(path: Path) -> None:
    """Has a cached balance say what no entry does."""
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE wallets SET balance_micro_usd = balance_micro_usd + 1")


def test_drill_that_finds_wrong_books_fails_and_says_so_until_one_passes(
    data_dir: Path, offsite: Offsite
) -> None:
    settings = settings_of(data_dir, offsite)
    drill(settings, with_key=False)
    passed = noted(data_dir, Upkeep.DRILL)
    spoil(data_dir / DATABASE)
    assert [each.row for each in drill(settings, with_key=False).findings] == [f"wallet {ALICE}"]
    failed = noted(data_dir, Upkeep.DRILL)
    assert (failed.at_ms, "1 rows" in failed.problem) == (passed.at_ms, True)


def test_store_that_fails_is_told_and_the_last_backup_stays_the_last(
    data_dir: Path, offsite: Offsite
) -> None:
    settings = settings_of(data_dir, offsite)
    send(settings, offsite.url, with_key=False)
    before = noted(data_dir, Upkeep.OFFSITE)

    async def fail() -> str:
        async with server_answering(b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n") as url:
            offsite.credentials.write_text(credentials_text(url))
            with pytest.raises(BackupFailed, match="cannot be reached") as told:
                await asyncio.to_thread(send, settings, offsite.url, with_key=False)
            return str(told.value)

    assert offsite.bucket in asyncio.run(fail())
    after = noted(data_dir, Upkeep.OFFSITE)
    assert (after.at_ms, after.size_bytes) == (before.at_ms, before.size_bytes)
    assert "cannot be reached" in after.problem
    assert list(data_dir.glob(".backup-*")) == []


def test_backup_whose_key_opens_nothing_does_not_count_as_one(
    data_dir: Path, offsite: Offsite, tmp_path_factory: pytest.TempPathFactory
) -> None:
    settings = settings_of(data_dir, offsite)
    (data_dir / KEY_FILE).write_text("22" * 32)
    assert send(settings, offsite.url, with_key=False).saved.key_problem
    back_up(settings, tmp_path_factory.mktemp("here") / "saved", with_key=False)
    for kind in (Upkeep.OFFSITE, Upkeep.BACKUP):
        done = noted(data_dir, kind)
        assert (done.at_ms, "is not the key" in done.problem) == (0, True)


@pytest.mark.parametrize(("reached", "stored"), [("backup sent", 1), ("backup stored", 2)])
def test_process_that_is_killed_leaves_whole_backups_alone(
    data_dir: Path, offsite: Offsite, reached: str, stored: int
) -> None:
    settings = settings_of(data_dir, offsite)
    send(settings, offsite.url, with_key=False)
    program = f"""
        from moorage.failpoints import armed, crash_at
        from moorage.operate.offsite import send
        from moorage.settings import load_settings
        settings = load_settings(
            file=None,
            environ={{}},
            data_dir={settings.data_dir!r},
            backup_recipient={settings.backup_recipient!r},
            backup_credentials_file={settings.backup_credentials_file!r},
        )
        with armed(crash_at({reached!r})):
            send(settings, {offsite.url!r}, with_key=False)
    """
    done = subprocess.run(
        [sys.executable, "-c", dedent(program)], capture_output=True, text=True, check=False
    )
    assert done.returncode == -9, done.stderr
    assert len(offsite.objects(data_dir)) == stored
    folder = f"{offsite.url}/moorage-{gateway_id(data_dir)}"
    source = offsite.saved(folder)
    assert prove(source).problem == ""
    send(settings, offsite.url, with_key=False)
    assert list(data_dir.glob(".backup-*")) == []


KILLED = """
    import os
    from pathlib import Path
    from moorage.operate.backup import restore
    from moorage.operate.offsite import prove

    def unpack(directory):
        (directory / "secrets.key").write_text("secret")
        os.kill(os.getpid(), 9)
"""


@pytest.mark.parametrize("act", ["prove(unpack)", "restore(unpack, Path('data'))"])
def test_secrets_that_a_killed_restore_left_are_removed_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, act: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    words = [sys.executable, "-c", f"{dedent(KILLED)}\n{act}"]
    assert subprocess.run(words, check=False).returncode == -9
    assert list(tmp_path.rglob("secrets.key"))

    def unpack(_: Path) -> Manifest:
        raise BackupInvalid("no backup")

    with pytest.raises(BackupInvalid):
        eval(act, {"prove": prove, "restore": restore, "Path": Path, "unpack": unpack})
    assert list(tmp_path.iterdir()) == []


def test_restore_to_a_mount_point_is_refused_before_it_begins(tmp_path: Path) -> None:
    """As a directory is put in place by renaming it."""
    disk, link = tmp_path / "disk", tmp_path / "link"
    disk.mkdir()
    link.symlink_to(disk)
    subprocess.run(["mount", "-t", "tmpfs", "none", disk], check=True)
    try:
        for target in (disk, link):
            with pytest.raises(BackupFailed, match="below it"):
                restore(lambda _: pytest.fail("it was unpacked"), target)
    finally:
        subprocess.run(["umount", disk], check=True)


def test_two_gateways_share_a_bucket_and_neither_sees_the_other(
    data_dir: Path, offsite: Offsite, tmp_path_factory: pytest.TempPathFactory
) -> None:
    first = send(settings_of(data_dir, offsite), offsite.url, with_key=False)
    second_dir = tmp_path_factory.mktemp("second") / "data"
    restore(offsite.saved(first.address), second_dir)
    second = send(settings_of(second_dir, offsite), offsite.url, with_key=False)
    assert offsite.objects(data_dir) == [first.stored.name]
    assert offsite.objects(second_dir) == [second.stored.name]


def refused(act: Callable[[], object]) -> str:
    with pytest.raises((ConfigurationInvalid, BackupFailed)) as told:
        act()
    return str(told.value)


def test_nothing_is_sent_without_a_public_key(data_dir: Path, offsite: Offsite) -> None:
    settings = settings_of(data_dir, offsite, backup_recipient="")
    assert "--new-key" in refused(lambda: send(settings, offsite.url, with_key=False))
    assert offsite.objects(data_dir) == []


ENDS = (
    "import atexit, sys; from moorage.cli.main import main; atexit.register(print, 'ended late'); "
    "sys.argv[0] = 'moorage'; main()"
)


def test_command_ends_before_threads_of_the_store_can_abort_it(
    data_dir: Path, offsite: Offsite
) -> None:
    """Under load one in nine ended by SIGABRT, after all was done."""
    given = {
        "MOORAGE_BACKUP_RECIPIENT": str(OWN.to_public()),
        "MOORAGE_BACKUP_CREDENTIALS_FILE": str(offsite.credentials),
    }
    words = ("operator", "backup", "--to", offsite.url, "--data-dir", str(data_dir))
    done = subprocess.run(
        [sys.executable, "-c", ENDS, *words],
        env=os.environ | given,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, "ended late" in done.stdout) == (0, False), done.stderr
    assert "encrypted" in done.stdout


def test_gateway_that_cannot_be_copied_is_told_and_noted(
    data_dir: Path, offsite: Offsite, tmp_path_factory: pytest.TempPathFactory
) -> None:
    full = tmp_path_factory.mktemp("full")
    (data_dir / KEY_FILE).write_bytes(b"0" * 3_000_000)
    size = 2 * (data_dir / DATABASE).stat().st_size + 4_000_000  # no room for a copy of the key
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", full], check=True)
    try:
        shutil.copytree(data_dir, full, dirs_exist_ok=True)
        settings = settings_of(full, offsite)
        said = refused(partial(send, settings, offsite.url, with_key=False))
        assert "No space left on device" in said
        assert noted(full, Upkeep.OFFSITE).problem == said
    finally:
        subprocess.run(["umount", full], check=True)


@pytest.mark.parametrize("act", [partial(send, to="s3://bucket/saved"), drill])
def test_nothing_is_made_where_no_gateway_is(
    tmp_path: Path, offsite: Offsite, act: Callable[..., object]
) -> None:
    """Such as where its disk is not mounted."""
    for data_dir in (tmp_path, tmp_path / "none"):
        settings = settings_of(data_dir, offsite)
        assert "is missing" in refused(partial(act, settings, with_key=False))
    assert list(tmp_path.iterdir()) == []


def test_backup_that_is_no_good_is_named_and_a_good_one_says_where_its_books_are(
    data_dir: Path, tmp_path: Path
) -> None:
    file, cut = tmp_path / "one.backup", tmp_path / "cut.backup"
    target = ("--data-dir", str(tmp_path / "new"))
    settings = load_settings(file=None, environ={}, data_dir=str(data_dir))
    back_up(settings, file, with_key=False)
    cut.write_bytes(file.read_bytes()[:-100])
    for words in (("restore", *target), ("restore", "--project", "hello"), ("drill",)):
        done = moorage("operator", words[0], str(cut), *words[1:], env=os.environ)
        assert done.stderr.startswith(f"error: {cut}: It is damaged"), done.stderr
    done = moorage("operator", "restore", str(file), *target, env=os.environ)
    assert "take database_url out" in done.stdout, done.stderr


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("backup",), "set backup_to"),
        (("backup", "file", "--to", "s3://bucket/saved"), "either a file or"),
        (("backup", "--to", "bucket/saved"), "must be s3://"),
        (("drill",), "backup_to is not set"),
        (("drill", "s3://bucket/saved/moorage-1", "--identity", "/dev/null"), "AGE-SECRET-KEY"),
        (("restore", "20260407t100000.000z.tar.gz.age", "--data-dir", "new"), "--identity"),
    ],
)
def test_command_that_lacks_something_names_it(
    data_dir: Path, words: tuple[str, ...], says: str
) -> None:
    given = () if words[0] == "restore" else ("--data-dir", str(data_dir))
    done = moorage("operator", *words, *given, env=os.environ)
    assert (done.returncode != 0, says in done.stderr) == (True, True), done.stderr
