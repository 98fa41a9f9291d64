"""What a deployer is warned of: files that are lost at the next deploy, secrets among the files."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
from gate import Gate, attempt

from moorage.engines.engine import WrittenFiles
from moorage.errors import FilesWouldBeLost, UploadInvalid
from moorage.hosting.entrance.attempt import refuse_credentials, warnings, written_warnings
from moorage.hosting.entrance.written import (
    Successor,
    Volume,
    Written,
    begins_empty,
    finds_volume,
    refuse_loss,
)
from moorage.payments.taking.payment_required import PaymentRequired
from moorage.planning.plan import Risk, RiskCode, Settings, Stops
from moorage.records.deployment import Finding, FindingKind, kept
from moorage.storage.apps import deployments
from support.books.records_fixture import PLAN
from support.gateway.clock import MovableClock
from support.gateway.fakes import FakeRuntime
from support.gateway.waiting import until

TWO = WrittenFiles(files=2, size_bytes=10, complete=True)
ONE = WrittenFiles(files=1, size_bytes=10, complete=True)


class Slow(FakeRuntime):
    """Answers when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []
        self.may_answer = asyncio.Event()

    async def written(self, deployment_id: str) -> WrittenFiles | None:
        self.asked.append(deployment_id)
        await self.may_answer.wait()
        return self.wrote[deployment_id]


@pytest.fixture
async def engine() -> AsyncIterator[Slow]:
    slow = Slow()
    slow.wrote = {"first": TWO}
    yield slow
    slow.may_answer.set()


async def test_many_ask_and_the_engine_is_asked_once_in_ten_seconds(
    engine: Slow, clock: MovableClock
) -> None:
    written = Written(engine, clock, wait_seconds=60)
    engine.may_answer.set()
    assert await asyncio.gather(*(written.by("first") for _ in range(20))) == [TWO] * 20
    engine.wrote = {"first": ONE}
    assert await written.by("first") == TWO
    assert engine.asked == ["first"]
    clock.advance(10_000)
    assert await written.by("first") == ONE
    assert engine.asked == ["first", "first"]


async def test_deploy_that_may_lose_files_is_told_what_there_is_at_that_moment(
    engine: Slow, clock: MovableClock
) -> None:
    written = Written(engine, clock, wait_seconds=60)
    engine.may_answer.set()
    assert await written.by("first") == TWO
    engine.wrote = {"first": ONE}
    assert await written.by("first") == TWO
    assert await written.by("first", freshly=True) == ONE
    assert await written.by("first") == ONE


async def test_engine_that_takes_long_is_not_waited_for_nor_asked_again(
    engine: Slow, clock: MovableClock
) -> None:
    written = Written(engine, clock, wait_seconds=0)
    assert await written.by("first") is None
    clock.advance(60_000)
    assert await written.by("first") is None
    assert engine.asked == ["first"]


async def test_costly_look_is_kept_two_hundred_times_as_long_as_it_took(
    engine: Slow, clock: MovableClock
) -> None:
    written = Written(engine, clock, wait_seconds=60)
    asking = asyncio.create_task(written.by("first"))
    await until(lambda: bool(engine.asked))
    clock.advance(250)
    engine.may_answer.set()
    assert await asking == TWO
    clock.advance(49_999)
    await written.by("first")
    assert engine.asked == ["first"]
    clock.advance(1)
    await written.by("first")
    assert engine.asked == ["first", "first"]


async def test_few_are_looked_at_at_once(engine: Slow, clock: MovableClock) -> None:
    written = Written(engine, clock, wait_seconds=0)
    for each in range(20):
        assert await written.by(str(each)) is None
    assert len(engine.asked) == 2
    engine.wrote = {str(each): ONE for each in range(20)}


async def test_what_cannot_be_told_is_unknown(clock: MovableClock) -> None:
    class Broken(FakeRuntime):
        async def written(self, deployment_id: str) -> WrittenFiles | None:
            raise OSError(deployment_id)

    assert await Written(Broken(), clock, wait_seconds=60).by("first") is None
    assert await Written(FakeRuntime(), clock).by(None) is None


WRITES = Finding(FindingKind.WRITES, "app.js", "writeFileSync")
NAMES = Finding(FindingKind.NAMES_VOLUME, "app.js", "")
KEY = Finding(FindingKind.CREDENTIAL_FILE, "id_rsa", "a private SSH key")
TOKEN = Finding(FindingKind.CREDENTIAL_TEXT, "app.js", "a GitHub token")


def test_part_that_is_left_out_is_named_with_what_it_holds() -> None:
    part = Finding(FindingKind.LEFT_OUT, "frontend", "pages (index.html)")
    (told,) = warnings((part,), volume=Volume.NONE)
    assert (told.code, told.path) == ("part_left_out", "frontend")
    assert told.message.startswith("frontend/ has pages (index.html), and nothing in the app's")
    assert kept((part, NAMES)) == [NAMES]


def wrote(
    files: int, size: int, *paths: str, complete: bool = True, outside: tuple[str, ...] = ()
) -> WrittenFiles:
    return WrittenFiles(
        files=files, size_bytes=size, complete=complete, paths=paths, outside=outside
    )


@pytest.mark.parametrize(
    ("findings", "volume", "said"),
    [
        ((), Volume.NONE, None),
        ((NAMES,), Volume.NONE, None),
        ((WRITES,), Volume.NONE, "deploy that with settings.volume: true"),
        ((WRITES, NAMES), Volume.NONE, "deploy that with settings.volume: true"),
        ((WRITES,), Volume.THERE, "below /data"),
        ((WRITES,), Volume.BEGINS, "below /data"),
        ((WRITES, NAMES), Volume.THERE, None),
    ],
)
def test_writer_is_told_what_is_lost_and_how_to_keep_it(
    findings: tuple[Finding, ...], volume: Volume, said: str | None
) -> None:
    told = warnings(findings, volume=volume)
    assert [each.code for each in told] == ["files_not_kept"] * (said is not None)
    for each in told:
        assert said
        assert each.path == "app.js"
        assert "writeFileSync" in each.message
        assert said in each.message


def by(volume: Volume, **more: Any) -> Successor:
    return Successor(volume=volume, releases_kept=3, volume_bytes=80 << 10, **more)


@pytest.mark.parametrize(
    ("written", "volume", "said"),
    [
        (wrote(1, 1025, "/app/a"), Volume.NONE, "1 file (2 KiB) since it was built: /app/a."),
        (wrote(1, 1025, "/app/a"), Volume.NONE, "/app/a is /data/a."),
        (wrote(9, 1, "/app/a", complete=False), Volume.NONE, "at least 9 files"),
        (wrote(9, 1, *"abcd"), Volume.NONE, "a, b, c and 6 more"),
        (wrote(2, 0, "/app/a"), Volume.NONE, "one of the last 3 that were replaced."),
        (wrote(2, 0, "/app/a"), Volume.THERE, "Only what the app writes below /data"),
        (wrote(2, 0, "/app/d/a"), Volume.BEGINS, "into the new volume. /app/d/a is /data/d/a."),
    ],
)  # fmt: skip
def test_files_of_the_running_version_are_told_with_what_becomes_of_them(
    written: WrittenFiles, volume: Volume, said: str
) -> None:
    (told,) = written_warnings(written, by(volume))
    assert told.code == "files_written"
    assert said in told.message
    assert ("settings.volume: true" in told.message) is (volume is Volume.NONE)


@pytest.mark.parametrize("written", [None, wrote(0, 0)])
def test_nothing_is_told_of_files_where_there_are_none_or_none_known(
    written: WrittenFiles | None,
) -> None:
    assert written_warnings(written, by(Volume.NONE)) == ()
    refuse_loss(written, by(Volume.BEGINS, finds_volume=False, discard=False))


@pytest.mark.parametrize(
    ("written", "named", "paths"),
    [
        (wrote(2, 9, "/app/a", outside=("/home/app/b",)), "/home/app/b can't go along",
         ("/home/app/b",)),
        (wrote(1, 71 << 10, "/app/a"), "larger than a new volume takes", ("/app/a",)),
    ],
)  # fmt: skip
def test_volume_that_can_not_take_all_along_is_refused_unless_it_may_be_lost(
    written: WrittenFiles, named: str, paths: tuple[str, ...]
) -> None:
    for discard in (None, False):
        with pytest.raises(FilesWouldBeLost, match=named) as refused:
            refuse_loss(written, by(Volume.BEGINS, discard=discard))
        assert refused.value.paths == paths
    refuse_loss(written, by(Volume.BEGINS, discard=True))
    assert begins_empty(written, by(Volume.BEGINS, discard=True)) is (written.files == 1)
    assert not begins_empty(written, by(Volume.BEGINS, discard=None))


@pytest.mark.parametrize(
    ("written", "said", "not_said"),
    [
        (wrote(1, 71 << 10, "/app/a"), "begins its volume without them", "takes"),
        (wrote(9, 9, "/app/a", complete=False), "begins its volume without them", "takes"),
        (wrote(2, 9, "/app/a", outside=("/home/app/b",)), "/home/app/b can't go along.", "them a"),
        (wrote(1, 9, outside=("/home/app/b",)), "/home/app/b can't go along.", "takes"),
        (wrote(1, 9, "/app/a"), "takes them along into the new volume.", "without"),
    ],
)
def test_deploy_that_may_lose_files_is_told_which_it_loses(
    written: WrittenFiles, said: str, not_said: str
) -> None:
    (told,) = written_warnings(written, by(Volume.BEGINS, discard=True))
    assert said in told.message
    assert not_said not in told.message


def test_refusal_says_if_consent_would_lose_what_could_go_along() -> None:
    many = wrote(9, 9, "/app/a", complete=False, outside=("/home/app/b",))
    with pytest.raises(FilesWouldBeLost, match="With discard_written: true it begins empty"):
        refuse_loss(many, by(Volume.BEGINS))


def test_volume_that_takes_all_along_is_refused_only_to_code_that_would_not_find_it() -> None:
    written = wrote(1, 70 << 10, "/app/a")
    refuse_loss(written, by(Volume.BEGINS, discard=None))
    with pytest.raises(FilesWouldBeLost, match="neither the code nor a variable names /data"):
        refuse_loss(written, by(Volume.BEGINS, finds_volume=False, discard=None))


@pytest.mark.parametrize("volume", [Volume.NONE, Volume.THERE])
def test_other_deploy_is_refused_only_if_it_says_that_nothing_may_be_lost(volume: Volume) -> None:
    written = wrote(1, 1, "/app/a")
    for discard in (None, True):
        refuse_loss(written, by(volume, discard=discard))
    with pytest.raises(FilesWouldBeLost) as refused:
        refuse_loss(written, by(volume, discard=False))
    assert refused.value.paths == ("/app/a",)


@pytest.mark.parametrize(
    ("findings", "start", "variables", "finds"),
    [
        ((WRITES,), "node .", {}, False),
        ((NAMES,), "node .", {}, True),
        ((), "node . --db /data/x", {}, True),
        ((), "node .", {"DB": "file:/data/x"}, True),
    ],
)
def test_volume_is_found_by_code_command_and_variables(
    findings: tuple[Finding, ...], start: str, variables: dict[str, str], finds: bool
) -> None:
    plan = msgspec.structs.replace(PLAN, start=start)
    assert finds_volume(findings, plan, variables) is finds


def test_each_secret_is_named_by_its_path() -> None:
    told = warnings((KEY, TOKEN), volume=Volume.NONE)
    assert [(each.code, each.path) for each in told] == [
        ("secret_in_upload", "id_rsa"),
        ("secret_in_upload", "app.js"),
    ]
    assert ["a private SSH key" in told[0].message, "a GitHub token" in told[1].message] == [
        True
    ] * 2


def test_refusal_of_secrets_names_the_first_and_lets_other_findings_pass() -> None:
    refuse_credentials((WRITES, NAMES))
    with pytest.raises(UploadInvalid) as refused:
        refuse_credentials((WRITES, TOKEN, KEY))
    assert refused.value.path == "app.js"
    assert "a GitHub token" in refused.value.problem


async def test_demand_quote_deploy_and_its_row_have_them(gate: Gate) -> None:
    tried = msgspec.structs.replace(attempt(), findings=(WRITES, KEY))
    codes = ["secret_in_upload", "files_not_kept"]

    quoted = await gate.admission.quote(tried)
    assert [each.code for each in quoted.warnings] == codes

    with pytest.raises(PaymentRequired) as demanded:
        await gate.admission.admit(tried, gate.upload())
    assert [each.code for each in demanded.value.demand.warnings] == codes

    paid = msgspec.structs.replace(attempt(tx=gate.pay()), findings=tried.findings, plan=tried.plan)
    admitted = await gate.admission.admit(paid, gate.upload())
    assert [each.code for each in admitted.warnings] == codes
    view = await deployments.view(gate.db, admitted.deployment_id)
    assert view is not None
    assert msgspec.json.decode(view.findings, type=tuple[Finding, ...]) == tried.findings
    assert view.volume is False


async def test_risks_of_the_plan_are_in_the_quote_and_warned_of_until_their_variables_are_set(
    gate: Gate,
) -> None:
    key = Risk(RiskCode.VARIABLE_UNSET, Stops.START, "Send KEY.", path="a.py", variables=("KEY",))
    tool = Risk(RiskCode.PROGRAM_ABSENT, Stops.REQUESTS, "No ffmpeg.")
    plan = msgspec.structs.replace(PLAN, risks=(key, tool))
    tried = msgspec.structs.replace(attempt(), plan=plan, findings=(KEY,))

    quoted = await gate.admission.quote(tried)
    assert (quoted.risks, [each.code for each in quoted.warnings]) == (
        (key, tool),
        ["secret_in_upload"],
    )

    with pytest.raises(PaymentRequired) as demanded:
        await gate.admission.admit(tried, gate.upload())
    warned = demanded.value.demand.warnings
    assert [each.code for each in warned] == [
        "variable_unset",
        "program_absent",
        "secret_in_upload",
    ]
    assert (warned[0].message, warned[0].path) == ("Send KEY.", "a.py")

    given = msgspec.structs.replace(tried.request, settings=Settings(run_envs={"KEY": "x"}))
    paid = msgspec.structs.replace(attempt(tx=gate.pay()), plan=plan, request=given)
    admitted = await gate.admission.admit(paid, gate.upload())
    assert [each.code for each in admitted.warnings] == ["program_absent"]

    redeploy = msgspec.structs.replace(attempt(body="two"), plan=plan)  # the project has KEY now
    assert (await gate.admission.quote(redeploy)).risks == (tool,)
