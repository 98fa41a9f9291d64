"""The settings of the operator's port and pages."""

from typing import Annotated

import msgspec

from moorage.settings.apps import setting
from moorage.settings.kubernetes import KubernetesSettings

Port = Annotated[int, msgspec.Meta(ge=0, le=65_535)]


class OperatorSettings(KubernetesSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where an operator reaches the gateway, and what can be done from there."""

    operator_port: Annotated[
        Port, setting("api", "The port of /metrics and /ready; 0 takes a free one.")
    ] = 8403
    operator_host: Annotated[
        str,
        setting(
            "api",
            "Where that port listens: 127.0.0.1, or 0.0.0.0 where a packet filter keeps all but "
            "your own programs from it.",
            pattern=r"^(127\.0\.0\.1|0\.0\.0\.0)\Z",
        ),
    ] = "127.0.0.1"
    operator_names: Annotated[
        tuple[Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9.-]{1,253}\Z")], ...],
        setting(
            "api",
            "Names that programs ask that port by, in lower case and without the port, such as a "
            "Service's in a cluster. It answers at addresses and localhost anyway.",
        ),
    ] = ()
    operator_wallets: Annotated[
        tuple[Annotated[str, msgspec.Meta(pattern=r"^0x[0-9a-f]{40}\Z")], ...],
        setting(
            "api",
            "Wallets that may sign in to the operator's pages, in lower case. Empty: only links of "
            "`moorage operator link` open them.",
        ),
    ] = ()
    operator_pages_on_public_host: Annotated[
        bool,
        setting(
            "api",
            "Serve the operator's pages at public_url as well, below /operator. Off, they answer "
            "at operator_port alone.",
        ),
    ] = False
    refund_key_file: Annotated[
        str,
        setting(
            "payments",
            "The file with the private key that refunds are sent with from the operator's pages: "
            "64 hex digits, for its owner's eyes only. Empty: pages send none, and `moorage refund`"
            " is told the file.",
        ),
    ] = ""
