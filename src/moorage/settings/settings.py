"""The settings: each with its default, its bounds, and what it means.

`docs/operate/configure.md` lists every one; a test compares.
"""

from pathlib import Path
from typing import Annotated, TypeVar

import msgspec

from moorage.chains.settings import ChainSettings
from moorage.money import MicroUsd
from moorage.payments.price.quotes import PriceList, Size
from moorage.settings.apps import setting
from moorage.settings.operator import OperatorSettings, Port
from moorage.storage.opening import DATABASE

_Part = TypeVar("_Part", bound=msgspec.Struct)
_WEB = r"^(https?://[^\s\"<>\\]{1,500})?\Z"
_POSTGRES = r"^(postgres(ql)?://\S+)?\Z"
_CONTENT = r"^(s3://[a-z0-9][a-z0-9.-]{2,62}(/[a-z0-9._/-]*)?|file:///\S+)?\Z"
_WEB_OR_MAIL = r"^(https?://[^\s\"<>\\]{1,500}|[^\s@:/\"<>\\]{1,64}@[^\s@:/\"<>\\]{1,255})?\Z"


class Settings(OperatorSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The operator's settings; the unit is in the name."""

    data_dir: Annotated[str, setting("", "Where all is kept: database, uploads, apps.")] = (
        ".moorage"
    )
    database_url: Annotated[
        str,
        setting(
            "",
            "The PostgreSQL database (15 or later) that keeps what else a file in data_dir does: "
            "postgresql://user:password@host:5432/database. It is secret: nothing prints it.",
            pattern=_POSTGRES,
        ),
    ] = ""
    run_dir: Annotated[
        str,
        setting(
            "", "Where sockets go; short, as their paths may have 108 bytes. Empty: below /run."
        ),
    ] = ""
    gateway_name: Annotated[
        str,
        setting(
            "",
            "The name of this gateway, where several share data_dir and database_url. Each has an "
            "operator_port of its own. Empty: it is the only one.",
            pattern=r"^[a-z0-9][a-z0-9-]{0,31}$|^$",
        ),
    ] = ""
    secrets_key_file: Annotated[
        str,
        setting(
            "",
            "The file with the key that variables are sealed with: 64 hex digits, for its owner's "
            "eyes only; older keys on further lines. Empty: secrets.key in data_dir, made at the "
            "first start.",
        ),
    ] = ""
    content_url: Annotated[
        str,
        setting(
            "content",
            "Where gateways on several machines keep the files that they share: "
            "s3://bucket/prefix, or file:///directory that all of them have mounted. Empty: in "
            "data_dir, for one machine.",
            pattern=_CONTENT,
        ),
    ] = ""
    content_endpoint: Annotated[
        str,
        setting("content", "The S3 server's URL. Empty: Amazon's, by the region.", pattern=_WEB),
    ] = ""
    content_region: Annotated[str, setting("content", "The bucket's region.")] = "us-east-1"
    content_credentials_file: Annotated[
        str,
        setting(
            "content",
            "The file with the bucket's keys, as AWS's tools have it, for its owner's eyes only. "
            "Empty: the AWS_… variables of the environment, or the machine's role.",
        ),
    ] = ""
    log_level: Annotated[str, setting("", "debug, info, warning or error.")] = "info"
    log_json: Annotated[bool, setting("", "Log JSON lines rather than text for people.")] = True
    chains: Annotated[
        dict[str, ChainSettings], setting("", "The chains payments are taken on, by name.")
    ] = msgspec.field(default_factory=dict)
    host: Annotated[str, setting("api", "The address that the gateway's API listens on.")] = (
        "127.0.0.1"
    )
    port: Annotated[Port, setting("api", "The API's port; 0 takes a free one.")] = 8402
    public_url: Annotated[
        str, setting("api", "The gateway's own address as clients see it. Empty: host and port.")
    ] = ""
    terms_url: Annotated[
        str,
        setting("api", "Where your terms stand, which every 402 names. Empty: none.", pattern=_WEB),
    ] = ""
    contact: Annotated[
        str,
        setting(
            "api",
            "How customers reach you: a mail address, or a URL. Empty: not told.",
            pattern=_WEB_OR_MAIL,
        ),
    ] = ""
    trusted_proxies: Annotated[
        tuple[str, ...], setting("api", "Networks whose X-Forwarded-For is believed.")
    ] = ()
    requests_per_minute: Annotated[
        int,
        setting(
            "api",
            "Requests a minute per wallet, deployment polled, or client address; "
            "strangers of one address have ten times as many.",
            ge=1,
        ),
    ] = 30
    refuse_secrets: Annotated[
        bool,
        setting(
            "api",
            "Refuse uploads that hold keys, tokens, wallets or a `.env`, before anything is paid; "
            "else they are warned of.",
        ),
    ] = False
    listed_wallets_only: Annotated[
        bool,
        setting(
            "api",
            "Take deploys and payments only of wallets that `moorage allow` has listed.",
        ),
    ] = False
    require_bound_signatures: Annotated[
        bool,
        setting(
            "api",
            "Take only signatures of version 2, which are good for one request to this gateway.",
        ),
    ] = False
    proxy_host: Annotated[str, setting("proxy", "The address that apps are served on.")] = (
        "127.0.0.1"
    )
    proxy_port: Annotated[
        Port, setting("proxy", "The port that apps are served on; 0: a free one.")
    ] = 8080
    base_domain: Annotated[str, setting("proxy", "Apps are served at <name>.<base_domain>.")] = (
        "localhost"
    )
    former_domains: Annotated[
        tuple[str, ...],
        setting(
            "proxy",
            "More domains below which each app is served as well. What `base_domain` was at earlier"
            " starts is among them by itself, until `moorage base-domain retire`.",
        ),
    ] = ()
    tls: Annotated[
        bool,
        setting(
            "proxy", "Serve apps over HTTPS on 443, with certificates that the gateway orders."
        ),
    ] = False
    acme_directory: Annotated[
        str,
        setting(
            "proxy",
            "With tls: the ACME directory of the authority that certificates are ordered from. "
            "Empty: Let's Encrypt.",
            pattern=_WEB,
        ),
    ] = ""
    acme_second_directory: Annotated[
        str,
        setting(
            "proxy",
            "With tls: the ACME directory of a second authority, for what the first can't give.",
            pattern=_WEB,
        ),
    ] = ""
    acme_eab_kid: Annotated[
        str,
        setting(
            "proxy",
            "With tls: the name of an account that the authority (the second, if there is one) "
            "knows from elsewhere: external account binding.",
        ),
    ] = ""
    acme_eab_hmac_key: Annotated[
        str, setting("proxy", "With tls: the key of that account, base64url.")
    ] = ""
    acme_dns_hook: Annotated[
        tuple[str, ...],
        setting(
            "proxy",
            "With tls: a program and its arguments that sets a TXT record, for one certificate of "
            "`*.base_domain`. It is given `add` or `remove`, the record's name and its value, and "
            "ends once name servers show it.",
        ),
    ] = ()
    acme_email: Annotated[
        str, setting("proxy", "With tls: where that authority writes to. Empty: nowhere.")
    ] = ""
    acme_root_file: Annotated[
        str,
        setting(
            "proxy",
            "With tls: a PEM file with the root that a private authority is trusted by. Empty: "
            "the system's.",
        ),
    ] = ""
    internal_authority: Annotated[
        bool,
        setting(
            "proxy",
            "With tls: sign certificates by an authority of the gateway's own, whose root your "
            "visitors must trust: `data_dir/certificates/root.pem`.",
        ),
    ] = False
    wildcard_certificate: Annotated[
        tuple[str, ...],
        setting(
            "proxy",
            "With tls: PEM files of `*.base_domain`'s certificate, chain included, and its key; "
            "read again when they change.",
        ),
    ] = ()
    certificates_per_wallet: Annotated[
        int,
        setting(
            "proxy", "How many hosts of a wallet may get their first certificate in a week.", ge=1
        ),
    ] = 20
    domains_per_project: Annotated[
        int, setting("proxy", "How many domains of its own a project may claim.", ge=0, le=1000)
    ] = 10
    dns_servers: Annotated[
        tuple[str, ...],
        setting(
            "proxy",
            "Resolvers that domains are proved by, as address or address:port. "
            "Empty: the system's.",
        ),
    ] = ()
    visitor_connections: Annotated[
        int,
        setting(
            "proxy",
            "Connections, and requests under way, that one address, or IPv6 /64, may have at the "
            "proxy, trusted proxies apart, and a /48 four times as many; 0 for any number.",
            ge=0,
        ),
    ] = 512
    memory_gib_month_micro_usd: Annotated[
        int, setting("prices", "The price of 1 GiB of memory for a month, in micro-USD.", ge=0)
    ] = 500_000
    cpu_month_micro_usd: Annotated[
        int, setting("prices", "The price of one CPU core for a month, in micro-USD.", ge=0)
    ] = 500_000
    minimum_charge_micro_usd: Annotated[
        int, setting("prices", "No quote is below this, in micro-USD.", ge=1)
    ] = 500_000
    build_minutes_per_usd: Annotated[
        int,
        setting(
            "prices",
            "Minutes of building that each dollar paid allows; what is beyond burns credits as an "
            "app of a build's size does.",
            ge=0,
        ),
    ] = 60
    price_notice_days: Annotated[
        int,
        setting(
            "prices",
            "`moorage prices` orders no higher price for projects that there are which counts "
            "sooner than this.",
            ge=0,
        ),
    ] = 30
    pay_to: Annotated[
        str, setting("payments", "The address that payments go to. Empty only in dev.")
    ] = ""
    offer_first: Annotated[
        str,
        setting(
            "payments",
            "The chain that a 402 offers first to clients of MPP and x402, unless a request names "
            "another or the wallet holds the price elsewhere. Empty: base, where it is taken.",
        ),
    ] = ""
    payment_wait_seconds: Annotated[
        int,
        setting("payments", "How long a request waits for its payment to be mined.", ge=0, le=60),
    ] = 5
    safe_above_micro_usd: Annotated[
        int,
        setting(
            "payments",
            "A transaction that brings more counts once its block is `safe`, in micro-USD.",
            ge=0,
        ),
    ] = 100_000_000
    agree_above_micro_usd: Annotated[
        int,
        setting(
            "payments",
            "A transaction that brings more counts once two nodes show it, in micro-USD, where "
            "`rpc_urls` names two.",
            ge=0,
        ),
    ] = 100_000_000
    watch_seconds: Annotated[
        int,
        setting(
            "payments",
            "How often chains are searched for payments, and payments looked at again.",
            ge=1,
        ),
    ] = 5
    rpc_timeout_seconds: Annotated[
        int, setting("payments", "How long a chain's node may take to answer.", ge=1, le=60)
    ] = 5
    screening_command: Annotated[
        tuple[str, ...],
        setting(
            "payments",
            "A program and its arguments, asked about each payment before it is credited.",
        ),
    ] = ()
    screening_url: Annotated[
        str, setting("payments", "A URL that is asked about each payment before it is credited.")
    ] = ""
    screening_seconds: Annotated[
        int,
        setting(
            "payments",
            "How long screening may take; a payment waits without a verdict.",
            ge=1,
            le=30,
        ),
    ] = 5
    relayer_key_file: Annotated[
        str,
        setting(
            "relayer",
            "The file with the private key that settles signed authorizations: 64 hex digits, for "
            "its owner's eyes only. Empty: none are taken, but in dev.",
        ),
    ] = ""
    relayer_max_gas: Annotated[
        int,
        setting(
            "relayer", "Gas that settling one authorization may take.", ge=100_000, le=10_000_000
        ),
    ] = 500_000
    relayer_max_fee_gwei: Annotated[
        int, setting("relayer", "The most that a gas may cost, in gwei.", ge=1)
    ] = 5
    relayer_reserve_gwei: Annotated[
        int,
        setting(
            "relayer", "Authorizations are offered while the relayer has as much gas money.", ge=0
        ),
    ] = 100_000
    relayer_reverted_gwei: Annotated[
        int,
        setting(
            "relayer", "Gas money to lose a day, UTC, to what did nothing, in gwei, by chain.", ge=1
        ),
    ] = 1_000_000
    webhook_allow_networks: Annotated[
        tuple[str, ...],
        setting(
            "webhooks",
            "Networks that webhooks may reach although they are private, by plain HTTP too. "
            "Loopback in dev.",
        ),
    ] = ()
    webhook_attempts_at_once: Annotated[
        int, setting("webhooks", "How many webhooks are sent an event at the same time.", ge=1)
    ] = 64

    def __repr__(self) -> str:
        return f"Settings(data_dir={self.data_dir!r}, …)"  # the rest may be secret

    @property
    def database(self) -> Path | str:
        """Where the books are: a file's path, or a server's URL."""
        return self.database_url or Path(self.data_dir) / DATABASE

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
