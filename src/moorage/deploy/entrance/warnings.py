"""Warnings of a deploy: what of its files is lost at the next one, and secrets among them."""

from collections.abc import Iterable

from moorage.deploy.entrance.attempt import DeployAttempt, Situation
from moorage.deploy.entrance.written import Successor, Volume, how_to_keep, said_of
from moorage.engines.engine import WrittenFiles
from moorage.errors import UploadInvalid
from moorage.records.deployment import Finding, FindingKind, said_left_out
from moorage.wire.shape import WarningCode, WarningItem

_VOLUME_LEFT_OUT = WarningItem(
    code=WarningCode.VOLUME_LEFT_OUT,
    field="upload",
    message="The export's volume is left out: the project has its own, which stays as it is. Under "
    "another uniqueName, the app begins with the export's.",
)
_CREDENTIALS = (FindingKind.CREDENTIAL_FILE, FindingKind.CREDENTIAL_TEXT)


def of_attempt(attempt: DeployAttempt, situation: Situation) -> tuple[WarningItem, ...]:
    """Returns what the deployer should know before the deploy is made."""
    by = situation.successor(attempt)
    told = of_request(attempt) + warnings(attempt.findings, volume=by.volume)
    if attempt.ignored_dockerfile:
        told = (*told, _not_followed(attempt.ignored_dockerfile))
    if attempt.leaves_volume:
        told = (*told, _VOLUME_LEFT_OUT)
    if situation.own is None:
        return told
    return (*written_warnings(attempt.written, by), *told)


def of_request(attempt: DeployAttempt) -> tuple[WarningItem, ...]:
    """Returns what the body alone gives rise to: keys that have no effect."""
    return tuple(
        WarningItem(
            code=WarningCode.UNKNOWN_FIELD,
            field=key,
            message=f"{key} is not a field of a deploy: it has no effect.",
        )
        for key in attempt.request.unknown
    )


def written_warnings(written: WrittenFiles | None, by: Successor) -> tuple[WarningItem, ...]:
    """Returns what to say of the files that a project's running version has written."""
    if written is None or written.files == 0:
        return ()
    return (WarningItem(code=WarningCode.FILES_WRITTEN, message=said_of(written, by)),)


def warnings(findings: Iterable[Finding], *, volume: Volume) -> tuple[WarningItem, ...]:
    """Returns the warnings that follow from what was found in the files of a project."""
    found = list(findings)
    told = [_secret(each) for each in found if each.kind in _CREDENTIALS]
    writer = next((each for each in found if each.kind is FindingKind.WRITES), None)
    names_volume = any(each.kind is FindingKind.NAMES_VOLUME for each in found)
    has_volume = volume in (Volume.BEGINS, Volume.THERE)
    told += [_left_out(each) for each in found if each.kind is FindingKind.LEFT_OUT]
    if writer is not None and not (has_volume and names_volume):
        told.append(_not_kept(writer, volume))
    return tuple(told)


def refuse_credentials(findings: Iterable[Finding]) -> None:
    """Raises UploadInvalid for the first secret that was found."""
    found = next((each for each in findings if each.kind in _CREDENTIALS), None)
    if found is not None:
        problem = (
            f"holds {found.what}, and this gateway takes no secrets in uploads: leave it out, and "
            "send what the app needs of it as variables (settings.runEnvs)"
        )
        raise UploadInvalid(problem, path=found.path)


def _secret(found: Finding) -> WarningItem:
    return WarningItem(
        code=WarningCode.CREDENTIAL,
        path=found.path,
        message=f"{found.path} holds {found.what}. Leave it out of the upload, and send what the "
        "app needs of it as variables (settings.runEnvs), which are stored encrypted.",
    )


def _not_followed(path: str) -> WarningItem:
    return WarningItem(
        code=WarningCode.DOCKERFILE_IGNORED,
        path=path,
        message=f"{path} is not followed: the app is built and started by its other files. To "
        "build what it says, deploy with settings.hasDockerfile: true.",
    )


def _left_out(found: Finding) -> WarningItem:
    return WarningItem(
        code=WarningCode.PART_LEFT_OUT, path=found.path, message=said_left_out(found)
    )


def _not_kept(writer: Finding, volume: Volume) -> WarningItem:
    return WarningItem(
        code=WarningCode.FILES_NOT_KEPT,
        path=writer.path,
        message=f"{writer.path} writes files ({writer.what}). A deploy begins without those that "
        f"the version before has written. {how_to_keep(None, volume)}",
    )
