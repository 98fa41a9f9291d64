"""Everything an operator can set, parsed once at the start.

Settings come from a TOML file, then from `MOORAGE_…` environment variables, then from the command
line. Unknown keys are refused with their path. `docs/operate.md` lists every one; a test compares.
"""

import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec

from moorage.chains.settings import ChainSettings
from moorage.errors import InvalidField
from moorage.money import MicroUsd
from moorage.payments.price.pricing import PriceList, Size

ENV_PREFIX = "MOORAGE_"
_NOT_SETTINGS = re.compile(
    r"GATEWAY|PRIVATE_KEY|BOUND_SIGNATURES|RPC_URL_\w+|CONFIG|STATE_DIR|CRASH_AT"
)
"""Variables of the client commands, and the failpoint at which crash tests have a gateway end."""


_Part = TypeVar("_Part", bound=msgspec.Struct)
Port = Annotated[int, msgspec.Meta(ge=0, le=65_535)]


def _doc(text: str, **limits: Any) -> msgspec.Meta:
    return msgspec.Meta(description=text, **limits)


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The operator's settings; the unit is in the name."""

    data_dir: Annotated[str, _doc("Where all is kept: database, uploads, apps.")] = ".moorage"
    run_dir: Annotated[
        str,
        _doc("Where sockets go; short, as their paths may have 108 bytes. Empty: below /run."),
    ] = ""
    host: Annotated[str, _doc("The address that the gateway's API listens on.")] = "127.0.0.1"
    port: Annotated[Port, _doc("The API's port; 0 takes a free one.")] = 8402
    operator_port: Annotated[
        Port, _doc("The loopback port of /metrics and /ready; 0 takes a free one.")
    ] = 8403
    proxy_host: Annotated[str, _doc("The address that apps are served on.")] = "127.0.0.1"
    proxy_port: Annotated[Port, _doc("The port that apps are served on; 0: a free one.")] = 8080
    base_domain: Annotated[str, _doc("Apps are served at <name>.<base_domain>.")] = "localhost"
    public_url: Annotated[
        str, _doc("The gateway's own address as clients see it. Empty: host and port.")
    ] = ""
    tls: Annotated[
        bool, _doc("Serve apps over HTTPS on 443, with certificates obtained on demand.")
    ] = False
    wildcard_certificate: Annotated[
        tuple[str, ...],
        _doc("With tls: PEM files of `*.base_domain`'s certificate, chain included, and its key."),
    ] = ()
    pay_to: Annotated[str, _doc("The address that payments go to. Empty only in dev.")] = ""
    chains: Annotated[
        dict[str, ChainSettings], _doc("The chains payments are taken on, by name.")
    ] = {}
    memory_gib_month_micro_usd: Annotated[
        int, _doc("The price of 1 GiB of memory for a month, in micro-USD.", ge=0)
    ] = 500_000
    cpu_month_micro_usd: Annotated[
        int, _doc("The price of one CPU core for a month, in micro-USD.", ge=0)
    ] = 500_000
    minimum_charge_micro_usd: Annotated[
        int, _doc("No quote is below this, in micro-USD.", ge=1)
    ] = 500_000
    app_memory_mib: Annotated[int, _doc("Memory of an app, in MiB.", ge=64)] = 512
    app_cpu_millis: Annotated[int, _doc("CPU of an app, in thousandths of a core.", ge=50)] = 500
    app_disk_mib: Annotated[int, _doc("Disk of an app's files, in MiB.", ge=64)] = 1024
    app_volume_mib: Annotated[
        int, _doc("Size of a volume, `/data` of a project that asks for one, in MiB.", ge=32)
    ] = 1024
    disk_reserve_mib: Annotated[
        int, _doc("What no app is ever to have of the disk that data_dir is on, in MiB.", ge=0)
    ] = 2048
    disk_overcommit: Annotated[
        float,
        _doc(
            "How many times the disk's free space may be promised to apps, whose disks are sparse: "
            "with 1 all of them can be full at once. Volumes always have their space.",
            ge=1,
            le=100,
        ),
    ] = 2.0
    memory_reserve_mib: Annotated[
        int,
        _doc(
            "Memory that apps and builds leave to the gateway, the proxy and the system, in MiB;"
            " of the rest, builds have what `builds_at_once` need, at most half.",
            ge=64,
        ),
    ] = 1024
    memory_overcommit: Annotated[
        float,
        _doc(
            "How many times the memory that apps have may be promised to them: with 1 all of them"
            " can use their limit at once. Most use far less than half. What sleeps or is"
            " suspended does not count; it is woken only where there is room.",
            ge=1,
        ),
    ] = 2.0
    app_pids: Annotated[int, _doc("Processes and threads of an app.", ge=16)] = 256
    build_memory_mib: Annotated[int, _doc("Memory of a build, in MiB.", ge=128)] = 2048
    build_cpu_millis: Annotated[int, _doc("CPU of a build, in thousandths of a core.", ge=100)] = (
        2000
    )
    build_pids: Annotated[int, _doc("Processes and threads of a build.", ge=16)] = 512
    build_seconds: Annotated[int, _doc("How long a build may take.", ge=1, le=540)] = 480
    build_minutes_per_usd: Annotated[
        int,
        _doc(
            "Minutes of building that each dollar paid allows; what is beyond burns credits as an "
            "app of a build's size does.",
            ge=0,
        ),
    ] = 60
    builds_at_once: Annotated[int, _doc("How many builds run at the same time.", ge=1)] = 2
    builds_per_wallet: Annotated[
        int, _doc("How many builds of one wallet run at the same time.", ge=1)
    ] = 1
    build_cache_mib: Annotated[
        int,
        _doc(
            "What builds of one wallet keep for its later ones, downloads and installed packages,"
            " in MiB; 0: nothing. Not in rootless mode.",
            ge=0,
        ),
    ] = 1024
    build_cache_total_mib: Annotated[
        int, _doc("What builds of all wallets keep for later ones, in MiB.", ge=0)
    ] = 10_240
    deploys_at_once: Annotated[
        int, _doc("How many deployments are carried out at the same time.", ge=1)
    ] = 8
    listen_seconds: Annotated[
        int, _doc("How long a started app may take to listen on a port.", ge=1)
    ] = 60
    healthy_seconds: Annotated[
        int, _doc("How long a listening app may take to answer GET / with less than 500.", ge=1)
    ] = 30
    drain_seconds: Annotated[
        int,
        _doc("How long a version that was replaced may end what it was asked before.", ge=0),
    ] = 30
    stop_seconds: Annotated[
        int,
        _doc("How long a stopped app may take to end after SIGTERM; then SIGKILL.", ge=0, le=60),
    ] = 5
    releases_kept: Annotated[
        int,
        _doc(
            "How many replaced versions of a project can be rolled back to; of as many that failed "
            "and of as many that were given up the logs are kept.",
            ge=0,
            le=100,
        ),
    ] = 3
    sleep_after_seconds: Annotated[
        int,
        _doc(
            "How long an app without request and connection runs on before it sleeps until its "
            "next request, in seconds; 0: for ever.",
            ge=0,
        ),
    ] = 0
    build_env: Annotated[
        dict[str, str], _doc("Variables that every build sees, such as a package mirror's URL.")
    ] = {}
    toolchains: Annotated[
        bool,
        _doc(
            "Install other versions of Node, Bun, Deno and package managers than this machine has,"
            " from npm packages, as apps ask for them."
        ),
    ] = True
    toolchains_mib: Annotated[
        int,
        _doc(
            "What all installed versions together may take, in MiB. Those that no app needs make "
            "room, the least recently used first.",
            ge=256,
        ),
    ] = 8192
    app_subnet: Annotated[
        str, _doc("The private IPv4 network that apps' own networks are cut from.")
    ] = "10.201.0.0/16"
    isolation: Annotated[
        str,
        _doc("How apps are kept apart: root, rootless, or auto: root for a gateway that is root."),
    ] = "auto"
    accept_soft_limits: Annotated[
        bool,
        _doc("Run rootless although disks, without control groups memory too, are only watched."),
    ] = False
    app_connections: Annotated[
        int, _doc("Visitors' connections that an app takes at once.", ge=16, le=10_000)
    ] = 1024
    visitor_connections: Annotated[
        int,
        _doc(
            "Connections that one address, or IPv6 /64, may have to the proxy, trusted proxies "
            "apart; 0 for any number. Root only.",
            ge=0,
        ),
    ] = 512
    app_connects_per_second: Annotated[
        int,
        _doc("Connections a second that an app may begin into the world; 0 for any.", ge=0),
    ] = 200
    app_bandwidth_mbit: Annotated[
        int,
        _doc(
            "What an app itself may send into the world and fetch from it, each, in Mbit/s; "
            "0 for any.",
            ge=0,
        ),
    ] = 0
    deny_networks: Annotated[
        tuple[str, ...], _doc("More networks that apps and builds must not reach.")
    ] = ()
    allow_networks: Annotated[
        tuple[str, ...], _doc("Networks that apps may reach although they are private.")
    ] = ()
    dns_servers: Annotated[
        tuple[str, ...],
        _doc(
            "Resolvers that domains are proved by, as address or address:port. Empty: the system's."
        ),
    ] = ()
    certificates_per_wallet: Annotated[
        int, _doc("How many hosts of a wallet may get their first certificate in a week.", ge=1)
    ] = 20
    domains_per_project: Annotated[
        int, _doc("How many domains of its own a project may claim.", ge=0, le=1000)
    ] = 10
    webhook_allow_networks: Annotated[
        tuple[str, ...],
        _doc(
            "Networks that webhooks may reach although they are private, by plain HTTP too. "
            "Loopback in dev."
        ),
    ] = ()
    webhook_attempts_at_once: Annotated[
        int, _doc("How many webhooks are sent an event at the same time.", ge=1)
    ] = 64
    requests_per_minute: Annotated[
        int,
        _doc(
            "Requests a minute per wallet, deployment polled, or client address; "
            "strangers of one address have ten times as many.",
            ge=1,
        ),
    ] = 30
    require_bound_signatures: Annotated[
        bool,
        _doc("Take only signatures of version 2, which are good for one request to this gateway."),
    ] = False
    trusted_proxies: Annotated[
        tuple[str, ...], _doc("Networks whose X-Forwarded-For is believed.")
    ] = ()
    screening_command: Annotated[
        tuple[str, ...],
        _doc("A program and its arguments, asked about each payment before it is credited."),
    ] = ()
    screening_url: Annotated[
        str, _doc("A URL that is asked about each payment before it is credited.")
    ] = ""
    screening_seconds: Annotated[
        int, _doc("How long screening may take; a payment waits without a verdict.", ge=1, le=30)
    ] = 5
    relayer_key_file: Annotated[
        str,
        _doc(
            "The file with the private key that settles signed authorizations: 64 hex digits, for "
            "its owner's eyes only. Empty: none are taken, but in dev."
        ),
    ] = ""
    relayer_max_gas: Annotated[
        int, _doc("Gas that settling one authorization may take.", ge=100_000, le=10_000_000)
    ] = 500_000
    relayer_max_fee_gwei: Annotated[int, _doc("The most that a gas may cost, in gwei.", ge=1)] = 5
    relayer_reserve_gwei: Annotated[
        int, _doc("Authorizations are offered while the relayer has as much gas money.", ge=0)
    ] = 100_000
    relayer_reverted_gwei: Annotated[
        int, _doc("Gas money to lose a day, UTC, to what did nothing, in gwei, by chain.", ge=1)
    ] = 1_000_000
    secrets_key_file: Annotated[
        str,
        _doc(
            "The file with the key that variables are sealed with: 64 hex digits, for its owner's "
            "eyes only; older keys on further lines. Empty: secrets.key in data_dir, made at the "
            "first start."
        ),
    ] = ""
    usage_days: Annotated[
        int, _doc("How long what apps used is kept, hour by hour, in days.", ge=1)
    ] = 90
    retention_days: Annotated[
        int, _doc("How long a suspended project is kept before it is deleted, in days.", ge=1)
    ] = 30
    failed_retention_days: Annotated[
        int, _doc("How long a project that never served keeps its name, in days.", ge=1)
    ] = 7
    payment_wait_seconds: Annotated[
        int, _doc("How long a request waits for its payment to be mined.", ge=0, le=60)
    ] = 5
    safe_above_micro_usd: Annotated[
        int,
        _doc("A transaction that brings more counts once its block is `safe`, in micro-USD.", ge=0),
    ] = 100_000_000
    watch_seconds: Annotated[
        int,
        _doc("How often chains are searched for payments, and payments looked at again.", ge=1),
    ] = 5
    rpc_timeout_seconds: Annotated[
        int, _doc("How long a chain's node may take to answer.", ge=1, le=60)
    ] = 5
    log_level: Annotated[str, _doc("debug, info, warning or error.")] = "info"
    log_json: Annotated[bool, _doc("Log JSON lines rather than text for people.")] = True

    def part(self, kind: type[_Part]) -> _Part:
        """What a room reads of them: `kind` has fields of the same names."""
        return msgspec.convert(self, kind, from_attributes=True)

    def price_list(self) -> PriceList:
        """The prices."""
        return PriceList(
            memory_gib_month=MicroUsd(self.memory_gib_month_micro_usd),
            cpu_month=MicroUsd(self.cpu_month_micro_usd),
            minimum_charge=MicroUsd(self.minimum_charge_micro_usd),
        )

    def app_size(self) -> Size:
        """What an app is given, as it is priced."""
        return Size(
            memory_mib=self.app_memory_mib,
            cpu_millis=self.app_cpu_millis,
            disk_mib=self.app_disk_mib,
        )


def load_settings(
    *, file: Path | None, environ: Mapping[str, str] = os.environ, **given: Any
) -> Settings:
    """The settings from file, environment and `given`, later ones winning; None is not given.

    `data_dir` is made absolute.

    Raises InvalidField naming the wrong one.
    """
    values: dict[str, Any] = {}
    if file is not None:
        try:
            values.update(tomllib.loads(file.read_text()))
        except OSError as error:
            raise InvalidField(str(file), error.strerror or str(error)) from error
        except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise InvalidField(str(file), str(error)) from error
    values.update(_from_environment(environ))
    values.update({key: value for key, value in given.items() if value is not None})
    try:
        settings = msgspec.convert(values, Settings)
    except msgspec.ValidationError as error:
        raise InvalidField("settings", str(error)) from error
    return msgspec.structs.replace(settings, data_dir=str(Path(settings.data_dir).absolute()))


def _from_environment(environ: Mapping[str, str]) -> dict[str, Any]:
    """What `MOORAGE_…` variables set; lists are comma-separated, tables are JSON."""
    fields = {field.name: field for field in msgspec.structs.fields(Settings)}
    values: dict[str, Any] = {}
    for variable, text in environ.items():
        rest = variable.removeprefix(ENV_PREFIX)
        if rest == variable or _NOT_SETTINGS.fullmatch(rest):
            continue
        field = fields.get(rest.lower())
        if field is None:
            raise InvalidField(variable, "is not a setting; see docs/operate.md")
        values[field.name] = _parsed(variable, text, default=field.default)
    return values


def _parsed(variable: str, text: str, *, default: object) -> object:
    if isinstance(default, str):
        return text
    if isinstance(default, tuple):
        return tuple(part.strip() for part in text.split(",") if part.strip())
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError as error:
        raise InvalidField(variable, f"cannot be read: {error}") from error
