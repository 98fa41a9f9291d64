"""A deploy request and the proof of payment, as the contract has them."""

import msgspec


class File(msgspec.Struct, frozen=True):
    """A file of the upload; `content` is sent as base64."""

    path: str
    content: bytes


class Files(msgspec.Struct, frozen=True, tag_field="type", tag="files"):
    """An upload file by file."""

    files: tuple[File, ...]


class Zip(msgspec.Struct, frozen=True, tag_field="type", tag="zip"):
    """An upload as one archive; `data` is sent as base64."""

    data: bytes
    filename: str


class Stored(msgspec.Struct, frozen=True, tag_field="type", tag="digest"):
    """An upload that the gateway has stored, named by its SHA-256 in hex."""

    sha256: str


class Settings(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """The settings that differ from the gateway's defaults; `None` leaves the default."""

    port: int | None = None
    runtime: str | None = None
    install_command: str | None = None
    build_command: str | None = None
    run_command: str | None = None
    framework: str | None = None
    has_dockerfile: bool = False
    directory_path: str | None = None
    build_dir: str | None = None
    run_envs: dict[str, str] | None = None
    build_vars: dict[str, str] | None = None
    health_path: str | None = None
    volume: bool = False


class DeployRequest(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """The body of `POST /agent/deploy`. Equal requests encode to equal bytes."""

    unique_name: str
    display_name: str
    upload: Files | Zip | Stored
    description: str | None = None
    months: int = 1
    settings: Settings = Settings()
    discard_written: bool | None = msgspec.field(name="discard_written", default=None)
    """Whether what the running version has written may be lost; False: the gateway refuses."""

    def encode(self) -> bytes:
        """Encodes the body: the same bytes each time, because the gateway compares digests."""
        return msgspec.json.encode(self)


class PaymentProof(msgspec.Struct, frozen=True):
    """A transaction that pays; or an authorization, as its header has it."""

    tx_hash: str
    chain: str
    token: str
    authorization: str = ""
