"""The owner's own copy of a project (contract 2.10)."""

from typing import Annotated, Literal

from msgspec import UNSET, Meta, UnsetType

from moorage.wire.shape import Absent, CamelBody, Time


class ExportBody(CamelBody, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an export is to hold."""

    public_key: (
        Annotated[
            str,
            Meta(
                description="an X25519 key in hex (RFC 7748), to which the variables are sealed "
                "by HPKE (RFC 9180); without it their values are left out",
                pattern="^[0-9A-Fa-f]{64}$",
            ),
        ]
        | UnsetType
    ) = UNSET


class ExportItem(CamelBody, frozen=True, kw_only=True):
    """An export: an archive of a project's files, volume, logs and variables."""

    id: str
    project_id: str
    state: Literal["making", "ready", "failed"]
    bytes: Annotated[int, Meta(description="of the archive, once it is ready"), Absent(0)] = 0
    sha256: Annotated[
        str, Meta(description="of the archive; deploys it with upload.type export"), Absent("")
    ] = ""
    url: Annotated[
        str, Meta(description="fetches the archive, for anybody who has it"), Absent("")
    ] = ""
    expires_at: Time
    reason: Annotated[str, Meta(description="why it failed"), Absent("")] = ""
    message: Annotated[str, Absent("")] = ""
