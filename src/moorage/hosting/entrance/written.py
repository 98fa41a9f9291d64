"""The files that running versions have written: what becomes of them, what refuses a deploy.

They are copied into a volume that the project is given; otherwise the next version begins without
them. A deploy that gives a volume is refused if a file can't be copied; any other deploy only if it
says `discard_written: false`.
"""

import asyncio
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

import msgspec

from moorage.clock import Clock
from moorage.engines.engine import EngineView, WrittenFiles
from moorage.errors import FilesWouldBeLost
from moorage.planning.plan import Plan
from moorage.records.deployment import DeploymentView, Finding, FindingKind
from moorage.records.project import Project

_NAMED = 3  # files in a sentence
_MIB = 1024 * 1024


class Volume(StrEnum):
    """What volume the next version has."""

    BEGINS = "begins"  # the project is given one: the version that serves runs without it
    THERE = "there"
    NONE = "none"


def volume_of(project: Project | DeploymentView | None, *, wanted: bool) -> Volume:
    """Returns what volume the next version of a project has, if the deploy `wanted` one or not."""
    if project is not None and project.volume:
        return Volume.BEGINS if project.volume_begins else Volume.THERE
    if wanted:
        serves = project is not None and project.serving_deployment_id is not None
        return Volume.BEGINS if serves else Volume.THERE
    return Volume.NONE


class Successor(msgspec.Struct, frozen=True, kw_only=True):
    """What decides on the files of the version that is replaced."""

    volume: Volume
    releases_kept: int
    """How many replaced versions are kept for a rollback, with their files."""
    finds_volume: bool = True
    """Whether its code or its variables name the volume's directory."""
    volume_bytes: int = 0
    """The size of a new volume."""
    discard: bool | None = None
    """Whether the request says that the files may be lost."""
    named: str = "The next deploy"
    """What the deploy is called in sentences."""


def finds_volume(findings: Iterable[Finding], plan: Plan, variables: Mapping[str, str]) -> bool:
    """Returns whether a version's code, command or variables name the volume's directory."""
    if any(each.kind is FindingKind.NAMES_VOLUME for each in findings):
        return True
    texts = (plan.start, *plan.run_env.values(), *variables.values())
    return any("/data" in text or "DATA_DIR" in text for text in texts)


def refuse_loss(written: WrittenFiles | None, by: Successor) -> None:
    """Raises FilesWouldBeLost, unless all goes along, or the request says what it may lose."""
    if by.discard or written is None or not written.files:
        return
    if by.volume is not Volume.BEGINS:
        if by.discard is False:
            raise FilesWouldBeLost(_told(written, fate(written, by)), paths=_paths(written))
        return
    room = _room(by)
    if written.outside:
        why = (
            f"{_some(written.outside)} can't go along: a new volume begins with what is below /app."
        )
        if begins_empty(written, msgspec.structs.replace(by, discard=True)):
            why += (
                " With discard_written: true it begins empty, as the files are too many to count."
            )
        raise FilesWouldBeLost(_told(written, why), paths=written.outside)
    if written.size_bytes > room:
        why = f"They are larger than a new volume takes ({room // _MIB} MiB)."
        raise FilesWouldBeLost(_told(written, why), paths=written.paths)
    if not by.finds_volume:
        why = (
            f"{_move(written)} in the new volume, and neither the code nor a variable names /data "
            "or DATA_DIR: the app would not find them. Let it read and write them there, and "
            "deploy that."
        )
        raise FilesWouldBeLost(_told(written, why), paths=written.paths)


def begins_empty(written: WrittenFiles | None, by: Successor) -> bool:
    """Returns whether a volume is given without what can't be taken along into it."""
    if not by.discard or written is None or by.volume is not Volume.BEGINS:
        return False
    return not written.complete or written.size_bytes > _room(by)


def said_of(written: WrittenFiles, by: Successor) -> str:
    """Returns what was written and what becomes of it, for a warning."""
    return _told(written, fate(written, by))


def fate(written: WrittenFiles | None, by: Successor) -> str:
    """Returns what becomes of files at the next deploy, and how they are kept."""
    back = ""
    if by.releases_kept:
        back = (
            " A rollback brings them back with this version, as long as that is one of the last "
            f"{by.releases_kept} that were replaced."
        )
    if by.volume is not Volume.BEGINS:
        return f"{by.named} begins without them.{back} {how_to_keep(written, by.volume)}"
    if begins_empty(written, by):
        return f"{by.named} begins its volume without them, as it says discard_written: true.{back}"
    if written is not None and written.outside:
        stays = f"{_some(written.outside)} can't go along.{back}"
        if not written.paths:
            return stays
        taken = f"{by.named} takes what is below /app along into the new volume, and no more"
        return f"{taken}: {stays} {_move(written)}. Let the app use it there."
    move = "" if written is None else f" {_move(written)}."
    return f"{by.named} takes them along into the new volume.{move} Let the app use them there."


def how_to_keep(written: WrittenFiles | None, volume: Volume) -> str:
    """Returns how an app's files outlive deploys."""
    if volume is not Volume.NONE:
        return "Only what the app writes below /data (DATA_DIR) is kept."
    example = _move(written) if written is not None and written.paths else "/app/a is /data/a"
    return (
        "To keep them: let the app read and write them below /data (DATA_DIR), and deploy that "
        f"with settings.volume: true. The volume begins with what it has written: {example}."
    )


def _room(by: Successor) -> int:
    return by.volume_bytes * 7 // 8  # a volume that is full at once is of no use


def _told(written: WrittenFiles, then: str) -> str:
    least = "" if written.complete else "at least "
    files = f"{least}{written.files} file{'s' * (written.files != 1)}"
    named = _some(_paths(written), of=written.files)
    return (
        f"The running version has written {files} ({-(-written.size_bytes // 1024)} KiB) since it "
        f"was built{f': {named}' if named else ''}. {then}"
    )


def _paths(written: WrittenFiles) -> tuple[str, ...]:
    return (*written.paths, *written.outside)


def _some(paths: tuple[str, ...], *, of: int = 0) -> str:
    more = max(of, len(paths)) - _NAMED
    return ", ".join(paths[:_NAMED]) + (f" and {more} more" if more > 0 else "")


def _move(written: WrittenFiles) -> str:
    """Returns where the first file is in a volume that begins with them."""
    first = next(iter(written.paths), "/app/a")
    return f"{first} is {first.replace('/app/', '/data/', 1)}"


_KEPT_SECONDS = 10.0
_KEPT_FOR_COST = 200  # times as long as it took: so looks at one app take half a percent of a core
_WAIT_SECONDS = 0.5  # a request is not held up for longer
_FRESH_SECONDS = 5.0  # nor one that may lose the files
_LOOKS_AT_ONCE = 2
_MAX_KEPT = 1_000

logger = logging.getLogger(__name__)


@dataclass
class _Look:
    answer: asyncio.Task[WrittenFiles | None]
    kept_until: float  # monotonic seconds


class Written:
    """Looks at a deployment's files seldom, however often it is asked; costly looks are rarer."""

    def __init__(
        self,
        engine: EngineView,
        clock: Clock,
        *,
        wait_seconds: float = _WAIT_SECONDS,
        releases_kept: int = 0,
        volume_bytes: int = 0,
    ) -> None:
        self._engine = engine
        self._clock = clock
        self._wait_seconds = wait_seconds
        self.releases_kept = releases_kept
        """How many replaced versions keep their files."""
        self.volume_bytes = volume_bytes
        """The size of a new volume."""
        self._looks: dict[str, _Look] = {}  # by deployment, oldest first
        self._turns = asyncio.Semaphore(_LOOKS_AT_ONCE)

    async def by(self, deployment_id: str | None, *, freshly: bool = False) -> WrittenFiles | None:
        """Returns what a deployment's app has written; None if that can't be told soon.

        `freshly`, it is as of now: for a request that may lose the files.
        """
        if deployment_id is None:
            return None
        look = self._looks.get(deployment_id)
        if look is None or freshly or (look.answer.done() and self._is_old(look)):
            look = self._begin(deployment_id)
        if not look.answer.done():
            wait_seconds = (
                max(self._wait_seconds, _FRESH_SECONDS) if freshly else self._wait_seconds
            )
            await asyncio.wait({look.answer}, timeout=wait_seconds)
        return look.answer.result() if look.answer.done() else None

    def successor(self, project: Project | DeploymentView) -> Successor:
        """Returns what becomes of a project's files at its next deploy, as far as is known."""
        volume = volume_of(project, wanted=False)
        return Successor(volume=volume, releases_kept=self.releases_kept)

    def _is_old(self, look: _Look) -> bool:
        return self._clock.monotonic_seconds() >= look.kept_until

    def _begin(self, deployment_id: str) -> _Look:
        self._looks.pop(deployment_id, None)
        while len(self._looks) >= _MAX_KEPT:
            self._looks.pop(next(iter(self._looks)))
        kept_until = self._clock.monotonic_seconds() + _KEPT_SECONDS
        look = _Look(asyncio.create_task(self._ask(deployment_id)), kept_until)
        self._looks[deployment_id] = look
        look.answer.add_done_callback(lambda _: self._took_until_now(look))
        return look

    def _took_until_now(self, look: _Look) -> None:
        """Keeps a look that took long for longer."""
        now = self._clock.monotonic_seconds()
        took = now - (look.kept_until - _KEPT_SECONDS)
        look.kept_until = max(look.kept_until, now + took * _KEPT_FOR_COST)

    async def _ask(self, deployment_id: str) -> WrittenFiles | None:
        async with self._turns:
            try:
                return await self._engine.written(deployment_id)
            except OSError as error:
                logger.warning("what %s has written can't be told: %s", deployment_id, error)
                return None
