"""What a deployer is warned of: files that are lost at the next deploy, secrets among the files."""

import msgspec
import pytest
from gate import Gate, attempt

from moorage.deploy.entrance.warnings import refuse_credentials, warnings, written_warnings
from moorage.engines.engine import WrittenFiles
from moorage.errors import UploadInvalid
from moorage.payments.protocols.demand import PaymentRequired
from moorage.records.finding import Finding, FindingKind
from moorage.storage.apps import deployments

WRITES = Finding(FindingKind.WRITES, "app.js", "writeFileSync")
NAMES = Finding(FindingKind.NAMES_VOLUME, "app.js", "")
KEY = Finding(FindingKind.CREDENTIAL_FILE, "id_rsa", "a private SSH key")
TOKEN = Finding(FindingKind.CREDENTIAL_TEXT, "app.js", "a GitHub token")


@pytest.mark.parametrize(
    ("findings", "has_volume", "offers_volumes", "said"),
    [
        ((), False, True, None),
        ((NAMES,), False, True, None),
        ((WRITES,), False, True, "settings.volume: true"),
        ((WRITES, NAMES), False, True, "settings.volume: true"),
        ((WRITES,), False, False, "no volumes"),
        ((WRITES,), True, True, "below /data"),
        ((WRITES, NAMES), True, True, None),
    ],
)
def test_writer_is_told_what_is_lost_and_how_to_keep_it(
    findings: tuple[Finding, ...], has_volume: bool, offers_volumes: bool, said: str | None
) -> None:
    told = warnings(findings, has_volume=has_volume, offers_volumes=offers_volumes)
    assert [each.code for each in told] == ["files_not_kept"] * (said is not None)
    for each in told:
        assert said
        assert each.path == "app.js"
        assert "writeFileSync" in each.message
        assert "lost at the next deploy" in each.message
        assert said in each.message


@pytest.mark.parametrize(
    ("written", "has_volume", "offers_volumes", "said"),
    [
        (WrittenFiles(files=1, size_bytes=1025, complete=True), False, True, "1 file (2 KiB)"),
        (WrittenFiles(files=2, size_bytes=0, complete=True), True, True, "2 files (0 KiB)"),
        (WrittenFiles(files=9, size_bytes=1, complete=False), False, False, "at least 9 files"),
    ],
)
def test_files_of_the_running_version_are_told_with_how_to_keep_such(
    written: WrittenFiles, has_volume: bool, offers_volumes: bool, said: str
) -> None:
    volumes = {"has_volume": has_volume, "offers_volumes": offers_volumes}
    (told,) = written_warnings(written, **volumes)
    (lost,) = warnings((WRITES,), **volumes)
    assert told.code == "files_written"
    assert said in told.message
    assert told.message.endswith(lost.message.partition(". ")[2])


@pytest.mark.parametrize("written", [None, WrittenFiles(files=0, size_bytes=0, complete=True)])
def test_nothing_is_told_of_files_where_there_are_none_or_none_known(
    written: WrittenFiles | None,
) -> None:
    assert written_warnings(written, has_volume=False, offers_volumes=True) == ()


def test_each_secret_is_named_by_its_path() -> None:
    told = warnings((KEY, TOKEN), has_volume=False, offers_volumes=True)
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
    assert [each.code for each in demanded.value.warnings] == codes

    paid = msgspec.structs.replace(attempt(tx=gate.pay()), findings=tried.findings, plan=tried.plan)
    admitted = await gate.admission.admit(paid, gate.upload())
    assert [each.code for each in admitted.warnings] == codes
    view = await deployments.view(gate.db, admitted.deployment_id)
    assert view is not None
    assert msgspec.json.decode(view.findings, type=tuple[Finding, ...]) == tried.findings
    assert view.volume is False
