"""An owner's export: one of a project at a time, made whatever crashes, and gone after a day."""

from typing import Any

import msgspec
import pytest
from Crypto.PublicKey import ECC
from yard import Yard

from moorage.archive.project import VARIABLES, Manifest, open_archive, unseal
from moorage.errors import DeployFailed, FailureCause, RateLimited
from moorage.failpoints import armed
from moorage.hosting.exports import KEPT_MS, ask_export
from moorage.records.project import Project, ProjectStatus, Variables
from moorage.storage.apps import projects
from moorage.storage.operation import exports
from moorage.storage.operation.exports import Export, ExportState
from support.books.records_fixture import ALICE, BOB, add_project
from support.gateway.clock import MINUTE_MS

KEY = ECC.generate(curve="Curve25519")
PUBLIC = bytes(KEY.public_key().export_key(format="raw")).hex()


class Crash(BaseException):
    """The process ends here."""


async def ask(yard: Yard, project: Project, key: str | None = None) -> Export:
    return await ask_export(yard.core, await yard.project(project), public_key=key)


async def now(yard: Yard, asked: Export) -> Export:
    found = await exports.by_token(yard.db, asked.token)
    assert found is not None
    return found


async def manifest_of(yard: Yard, export: Export) -> tuple[Manifest, dict[str, bytes]]:
    path = await yard.services.export_files.path(export)
    with path.open("rb") as source:
        archive = open_archive(source)
        found = dict[str, bytes]()
        for part in archive.manifest.parts:
            source.seek(archive.offsets[part.name])
            found[part.name] = source.read(part.size_bytes)
        return archive.manifest, found


async def test_export_has_all_and_values_for_the_owners_key_alone(
    yard: Yard, project: Project
) -> None:
    await yard.serving(project)
    variables = Variables(run={"TOKEN": "hush"})
    async with yard.db.transaction(durable=True) as tx:
        sealed = yard.vault.seal(variables, project.id)
        await projects.configure(tx, project.id, variables=sealed, health_path="/ok")
        await projects.give_volume(tx, project.id)
    asked = await ask(yard, project, PUBLIC)
    await yard.services.owner_exports.tick()
    made = await now(yard, asked)
    assert made.state is ExportState.READY
    manifest, parts = await manifest_of(yard, made)
    assert list(parts) == [
        *("files.tar.gz", "volume.tar.gz", "build.log", "runtime.log", "variables.sealed")
    ]
    assert (manifest.variables, manifest.sealed_to, manifest.left_out) == (["TOKEN"], PUBLIC, {})
    opened = unseal(parts[VARIABLES], bytes(KEY.seed).hex())
    assert msgspec.json.decode(opened, type=Variables) == variables
    assert msgspec.json.decode(msgspec.json.encode(manifest.settings)) == {
        "healthPath": "/ok",
        "volume": True,
    }
    assert all(b"hush" not in content for content in parts.values())


async def test_values_of_variables_are_left_out_without_a_key_and_that_is_written_down(
    yard: Yard, project: Project
) -> None:
    await yard.serving(project)
    async with yard.db.transaction(durable=True) as tx:
        sealed = yard.vault.seal(Variables(build={"NPM": "hush"}), project.id)
        await projects.configure(tx, project.id, variables=sealed, health_path="/")
    asked = await ask(yard, project)
    await yard.services.owner_exports.tick()
    manifest, parts = await manifest_of(yard, await now(yard, asked))
    assert (manifest.build_variables, manifest.sealed_to) == (["NPM"], None)
    assert "variables" in manifest.left_out
    assert VARIABLES not in parts


async def test_one_of_a_project_is_made_and_the_same_is_given_for_ten_minutes(
    yard: Yard, project: Project
) -> None:
    await yard.serving(project)
    asked = await ask(yard, project)
    assert await ask(yard, project) == asked
    with pytest.raises(RateLimited):
        await ask(yard, project, PUBLIC)
    await yard.services.owner_exports.tick()
    assert (await ask(yard, project)).token == asked.token
    yard.clock.advance(10 * MINUTE_MS)
    second = await ask(yard, project)
    assert second.token != asked.token
    assert await exports.by_token(yard.db, asked.token) is None


async def test_wallet_has_three_made_at_a_time(yard: Yard) -> None:
    owned = [await add_project(yard.db, ALICE, f"shop-{number}") for number in range(4)]
    for each in owned[:3]:
        await ask(yard, each)
    with pytest.raises(RateLimited, match="Three"):
        await ask(yard, owned[3])
    await yard.services.owner_exports.tick()
    await ask(yard, owned[3])


@pytest.mark.parametrize(
    ("holder", "part", "reason"),
    [
        (ALICE, 8, "a wallet may have"),
        (BOB, 8, None),
        (BOB, 2, "no room"),
    ],
)
async def test_exports_leave_room_for_other_wallets_and_for_the_last_copies(
    yard: Yard, project: Project, holder: str, part: int, reason: str | None
) -> None:
    """A wallet's may take a sixteenth of what is free, all owners' a quarter."""
    await yard.serving(project)
    earlier = await ask(yard, await add_project(yard.db, holder, "earlier"))
    free = yard.services.export_files.free_bytes()
    large = msgspec.structs.replace(
        earlier, state=ExportState.READY, size_bytes=free // part, sha256="00"
    )
    async with yard.db.transaction(durable=True) as tx:
        await exports.put(tx, large)
    asked = await ask(yard, project)
    await yard.services.owner_exports.tick()
    made = await now(yard, asked)
    assert made.state is (ExportState.READY if reason is None else ExportState.FAILED)
    assert (reason or "") in made.reason


@pytest.mark.parametrize("step", ["export begun", "export stored"])
async def test_crash_makes_it_again_and_at_most_three_times(
    yard: Yard, project: Project, step: str
) -> None:
    await yard.serving(project)
    asked = await ask(yard, project)

    def crash(reached: str) -> None:
        if reached == step:
            raise Crash

    with armed(crash):
        for _ in range(3):
            with pytest.raises(Crash):
                await yard.services.owner_exports.tick()
        assert (await now(yard, asked)).state is ExportState.MAKING
        await yard.services.owner_exports.tick()
    failed = await now(yard, asked)
    assert (failed.state, "cut off" in failed.reason) == (ExportState.FAILED, True)
    yard.clock.advance(MINUTE_MS)
    again = await ask(yard, project)
    with armed(lambda _: None):
        await yard.services.owner_exports.tick()
    assert (await now(yard, again)).state is ExportState.READY


async def test_volume_that_can_not_be_read_fails_at_once_with_its_reason(
    yard: Yard, project: Project
) -> None:
    await yard.serving(project)
    async with yard.db.transaction(durable=True) as tx:
        await projects.give_volume(tx, project.id)
    yard.runtime.faults["read_volume"] = [DeployFailed(FailureCause.OUT_OF_DISK, "two users")]
    asked = await ask(yard, project)
    await yard.services.owner_exports.tick()
    failed = await now(yard, asked)
    assert (failed.state, failed.reason) == (ExportState.FAILED, "two users")


async def test_export_goes_after_a_day_with_its_file(yard: Yard, project: Project) -> None:
    await yard.serving(project)
    asked = await ask(yard, project)
    await yard.services.owner_exports.tick()
    path = await yard.services.export_files.path(await now(yard, asked))
    yard.clock.advance(KEPT_MS - 1)
    await yard.services.owner_exports.tick()
    assert path.exists()
    yard.clock.advance(1)
    await yard.services.owner_exports.tick()
    assert not path.exists()
    assert await exports.by_token(yard.db, asked.token) is None


async def test_project_that_is_deleted_meanwhile_gets_none(yard: Yard, project: Project) -> None:
    asked = await ask(yard, project)
    async with yard.db.transaction(durable=True) as tx:
        await projects.set_status(tx, project.id, ProjectStatus.DELETING)
    await yard.services.owner_exports.tick()
    assert await exports.by_token(yard.db, asked.token) is None


@pytest.mark.parametrize("asks", [False, True], ids=["taker waits", "taker asks for its own"])
async def test_export_that_is_being_made_when_the_project_changes_hands_is_nobodys(
    yard: Yard, project: Project, monkeypatch: pytest.MonkeyPatch, asks: bool
) -> None:
    """Who has given it away would fetch by the link what the next owner's app has written."""
    await yard.serving(project)
    asked, export_files = await ask(yard, project), yard.runtime.export_files
    transfers, own = yard.services.transfers, list[Export]()

    async def changes_hands(*arguments: Any, **named: Any) -> None:
        monkeypatch.undo()
        offered = await transfers.offer(
            await yard.project(project),
            taker=BOB,
            with_purse=False,
            with_variables=True,
            not_after_ms=yard.clock.now_ms() + MINUTE_MS,
        )
        await transfers.accept(offered.id, wallet=BOB)
        own.extend([await ask(yard, project)] if asks else [])
        await export_files(*arguments, **named)

    monkeypatch.setattr(yard.runtime, "export_files", changes_hands)
    await yard.services.owner_exports.tick()
    found = await exports.by_token(yard.db, asked.token)
    assert found is None or found.until_ms <= yard.clock.now_ms()
    yard.clock.advance(MINUTE_MS)
    await yard.services.owner_exports.tick()
    assert await exports.by_token(yard.db, asked.token) is None
    for each in own:
        assert (await now(yard, each)).state is ExportState.READY
