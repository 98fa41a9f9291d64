"""What the operator's commands share: which gateway is meant, and how their words are read."""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from moorage.cli.screen import Screen

if TYPE_CHECKING:
    from moorage.settings import Settings


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class GatewayMeant:
    """The flags that say whose books are opened. The gateway may run meanwhile, or not."""

    config: Annotated[
        Path | None,
        Parameter(help="The gateway's settings, as TOML; without it `moorage dev` is meant."),
    ] = None
    data_dir: Annotated[
        str | None,
        Parameter(help="Where it keeps everything, if not where the settings say."),
    ] = None

    def settings(self) -> "Settings":
        """Its settings. Raises InvalidField."""
        from moorage.settings import load_settings

        return load_settings(file=self.config, data_dir=self.data_dir)


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class OperatorOptions(GatewayMeant):
    """The flags that the operator's commands share."""

    json: Annotated[bool, Parameter(help="Print one JSON document.", negative=())] = False

    def screen(self) -> Screen:
        """Where the command prints."""
        return Screen(json=self.json)


DEFAULTS = OperatorOptions()


def required(option: str, text: str) -> str:
    """What an argument says. Raises InvalidField without anything."""
    from moorage.errors import InvalidField

    if not text:
        raise InvalidField(option, "name it")
    return text


def reason_option(text: str) -> str:
    """What `--reason` says. Raises InvalidField without anything."""
    from moorage.errors import InvalidField

    if not text.strip():
        raise InvalidField("--reason", "say why, for the record")
    return text.strip()


def time_option(option: str, text: str | None, *, default: int) -> int:
    """Unix milliseconds of an ISO 8601 time, in UTC unless it says otherwise."""
    from moorage.errors import InvalidField

    if text is None:
        return default
    try:
        time = datetime.fromisoformat(text)
    except ValueError as error:
        raise InvalidField(option, "must be a time such as 2026-04-07T10:00:00Z") from error
    aware = time if time.tzinfo else time.replace(tzinfo=UTC)
    return round(aware.timestamp() * 1000)


def wallet_option(option: str, text: str) -> str:
    """A wallet as the books spell it; "" when none is named. Raises InvalidField."""
    from moorage.chains.address import parse_address
    from moorage.errors import InvalidField

    try:
        return parse_address(text) if text else ""
    except ValueError as error:
        raise InvalidField(option, str(error)) from error
