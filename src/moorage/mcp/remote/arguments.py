"""What `deploy` and `quote` take where the files are elsewhere: inline, or by a digest."""

from base64 import b64encode
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from moorage.mcp.tools.arguments import UNLISTED, App, ArgumentsInvalid, Chain, Deploy, Token

MANAGE_TOKEN = "manage_token"  # noqa: S105 - its name
COMMON = {MANAGE_TOKEN: {"type": "string", "description": "of the project, as deploy gave it"}}
"""What a tool about one project takes here besides: a model sets no headers of its requests."""


class InlineFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A small file."""

    path: Annotated[str, Meta(min_length=1, max_length=1024)]
    text: str | None = None
    content: Annotated[str, Meta(description="base64, instead of text")] | None = None
    base64: Annotated[str, Meta(extra_json_schema=UNLISTED)] | None = None  # content's first name

    def uploaded(self) -> dict[str, str]:
        """Returns it as an upload has it. Raises ArgumentsInvalid unless it is given once."""
        given = [each for each in (self.text, self.content, self.base64) if each is not None]
        if len(given) != 1:
            raise ArgumentsInvalid(f"files: {self.path!r} needs text, or content in base64")
        content = b64encode(self.text.encode()).decode() if self.text is not None else given[0]
        return {"path": self.path, "content": content}


Inline = Annotated[
    list[InlineFile], Meta(description="a few small files; else upload_sha256", max_length=100)
]
Sha256 = Annotated[
    str,
    Meta(
        description="of what was uploaded; call without files to learn the shell line",
        pattern="^[0-9a-f]{64}$",
    ),
]


class DeployUpload(Deploy, frozen=True, kw_only=True):
    """What is deployed, and how it is paid for."""

    files: Inline | None = None
    upload_sha256: Sha256 | None = None

    @property
    def upload(self) -> dict[str, Any] | None:
        """The `upload` of the request; None without files."""
        return _upload(self.files, self.upload_sha256)


class QuoteUpload(App, frozen=True, kw_only=True):
    """What would be deployed."""

    files: Inline | None = None
    upload_sha256: Sha256 | None = None
    chain: Chain | None = None
    token: Token | None = None

    @property
    def upload(self) -> dict[str, Any] | None:
        """The `upload` of the request; None without files."""
        return _upload(self.files, self.upload_sha256)


def deploy_body(app: DeployUpload | QuoteUpload, upload: dict[str, Any]) -> dict[str, Any]:
    """Returns the body of a deploy: equal for equal arguments, as payments are bound to it."""
    body = {
        "uniqueName": app.name,
        "displayName": app.display_name or app.name,
        "months": app.months,
        "settings": msgspec.to_builtins(app.settings),
        "upload": upload,
    }
    if isinstance(app, DeployUpload) and not app.dry_run:
        body["discard_written"] = app.discard_written
    return body if app.description is None else {**body, "description": app.description}


def upload_line(public_url: str) -> str:
    """Returns the shell line that uploads the present directory, and prints its digest."""
    return (
        "zip -qr - . -x '.git/*' 'node_modules/*' '.env*' | base64 | tr -d '\\n' | "
        'sed \'s/^/{"type":"zip","filename":"app.zip","data":"/; s/$/"}/\' > /tmp/upload.json && '
        "SHA=$(sha256sum /tmp/upload.json | cut -d' ' -f1) && "
        'curl -sS --fail-with-body -T /tmp/upload.json -H "Authorization: Bearer $MANAGE_TOKEN" '
        f'{public_url}/agent/uploads/$SHA && echo "upload_sha256: $SHA"'
    )


def _upload(files: list[InlineFile] | None, sha256: str | None) -> dict[str, Any] | None:
    if sha256 is not None:
        return {"type": "digest", "sha256": sha256}
    if files:
        return {"type": "files", "files": [file.uploaded() for file in files]}
    return None
