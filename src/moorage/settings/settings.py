"""The settings: each with its default, its bounds, and what it means.

`docs/run/configure.md` lists every one; a test compares. Rooms get the whole record and read
what they need of it: a new setting is a field here, and what reads it.
"""

from pathlib import Path
from typing import Annotated, Any
from urllib.parse import unquote, urlsplit

import msgspec

from moorage.chains.chain import ChainSettings
from moorage.money import MicroUsd
from moorage.records.size import PriceList, Size, Sizes, SizeSetting
from moorage.storage.opening import DATABASE

TABLE = "table"
"""The key of a setting's metadata that names its table in the file; "" is the top."""

FIRST = "first"
"""The key of a setting's metadata that is true for what a first gateway needs."""

LETS_ENCRYPT = "https://acme-v02.api.letsencrypt.org/directory"
"""The authority where none is set."""

INTERNAL = "internal"
"""The gateway's own authority, in place of a directory's URL."""

_WEB = r"^(https?://[^\s\"<>\\]{1,500})?\Z"
_WEB_OR_MAIL = r"^(https?://[^\s\"<>\\]{1,500}|[^\s@:/\"<>\\]{1,64}@[^\s@:/\"<>\\]{1,255})?\Z"
_POSTGRES = r"^(postgres(ql)?://\S+)?\Z"
_CONTENT = r"^(s3://[a-z0-9][a-z0-9.-]{2,62}(/[a-z0-9._/-]*)?|file:///\S+)?\Z"
_RECIPIENT = r"^(age1[a-z0-9]{58})?\Z"
_SMTP = r"^(smtps?://([^\s@:/]+@)?(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9.-]{1,253})(:\d{1,5})?/?)?\Z"
_PORT = r"([1-5]?\d{1,4}|6[0-4]\d{3}|65[0-4]\d\d|655[0-2]\d|6553[0-5])"
_ADDRESS = rf"^(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9.-]{{1,253}}):{_PORT}\Z"
_OPERATORS_ADDRESS = rf"^(127\.0\.0\.1|0\.0\.0\.0):{_PORT}\Z"
_NAMESPACE = r"^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?\Z"


def setting(table: str, text: str, *, first: bool = False, **limits: Any) -> msgspec.Meta:
    """Describes a setting that stands in a table of the file; `first`: a first gateway needs it."""
    return msgspec.Meta(description=text, extra={TABLE: table, FIRST: first}, **limits)


_Wallet = Annotated[str, msgspec.Meta(pattern=r"^0x[0-9a-f]{40}\Z")]
_Mail = Annotated[str, msgspec.Meta(pattern=r"^[^\s@:/\"<>\\,]{1,64}@[^\s@:/\"<>\\,]{1,255}\Z")]
_Directory = Annotated[str, msgspec.Meta(pattern=r"^(internal|https?://[^\s\"<>\\]{1,500})\Z")]


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an operator sets; the unit is in the name."""

    # A table, one to five lines a setting.
    # fmt: off
    data_dir: Annotated[str, setting("",
        "The directory of the database, uploads and apps.", first=True)] = ".moorage"
    database_url: Annotated[str, setting("",
        "The PostgreSQL database (15 or later) of the books: "
        "postgresql://user:password@host:5432/database. Secret: it is never printed. Empty: a file "
        "in data_dir.", pattern=_POSTGRES)] = ""
    run_dir: Annotated[str, setting("",
        "The directory of sockets. A socket's path may have 108 bytes. Empty: below /run.")] = ""
    gateway_name: Annotated[str, setting("",
        "This gateway's name, if several share data_dir and database_url. Each needs its own "
        "operator_listen. Empty: it is the only one.",
        pattern=r"^[a-z0-9][a-z0-9-]{0,31}\Z|^\Z")] = ""
    secrets_key_file: Annotated[str, setting("",
        "The file with the key that seals variables: 64 hex digits, readable by its owner alone; "
        "older keys on further lines. Empty: secrets.key in data_dir."
        )] = ""
    log_level: Annotated[str, setting("", "debug, info, warning or error.")] = "info"
    chains: Annotated[dict[str, ChainSettings], setting("",
        "The chains on which you are paid, by name.",
        first=True)] = msgspec.field(default_factory=dict)
    sizes: Annotated[tuple[SizeSetting, ...], setting("",
        "Sizes of apps, as `[[sizes]]`: `name`; `memory_mib`, `cpu_millis`, `disk_mib`, "
        "`volume_mib` where they differ from `[apps]`, the size `standard`; `month_micro_usd`, "
        "`asleep_month_micro_usd` in place of computed prices; `sold = false` to sell no more. "
        "None: `small` is half of standard; `large` is four times, with twice the disk."
        )] = msgspec.field(default_factory=tuple)

    listen: Annotated[str, setting("api",
        "The address and port of the API; port 0 takes a free one.",
        pattern=_ADDRESS)] = "127.0.0.1:8402"
    public_url: Annotated[str, setting("api",
        "The gateway's address for clients. Empty: that of listen.", first=True)] = ""
    terms_url: Annotated[str, setting("api",
        "The address of your terms, which every 402 names. Empty: none.", pattern=_WEB)] = ""
    contact: Annotated[str, setting("api",
        "How customers reach you: a mail address or a URL. Empty: not given.",
        pattern=_WEB_OR_MAIL)] = ""
    issuer: Annotated[tuple[str, ...], setting("api",
        "Your name, then the lines of your address, for receipts and invoices.")] = ()
    trusted_proxies: Annotated[tuple[str, ...], setting("api",
        "Networks of proxies whose X-Forwarded-For is believed.")] = ()
    requests_per_minute: Annotated[int, setting("api",
        "Requests a minute of a wallet, of a polled deployment, and of a client address; unsigned "
        "requests of one address may be ten times as many.", ge=1)] = 30
    refuse_secrets: Annotated[bool, setting("api",
        "Refuse uploads that hold keys, tokens, wallets or a `.env`, before anything is paid. "
        "False: warn.")] = False
    listed_wallets_only: Annotated[bool, setting("api",
        "Take deploys and payments only from wallets that `moorage operator allow` has listed."
    )] = False
    require_bound_signatures: Annotated[bool, setting("api",
        "Take only signatures of version 2, each valid for one request to this gateway."
    )] = False
    operator_listen: Annotated[str, setting("api",
        "The address and port of /metrics, /ready and the operator's pages: 127.0.0.1, or 0.0.0.0 "
        "behind a packet filter; port 0 takes a free one.",
        pattern=_OPERATORS_ADDRESS)] = "127.0.0.1:8403"
    operator_wallets: Annotated[tuple[_Wallet, ...], setting("api",
        "Wallets that may sign in to the operator's pages, in lower case. The pages are then also "
        "at public_url/operator, if that is https.")] = ()

    proxy_listen: Annotated[str, setting("proxy",
        "The address and port of apps; port 0 takes a free one. With tls the ports are 80 and 443.",
        pattern=_ADDRESS, first=True)] = "127.0.0.1:8080"
    base_domain: Annotated[str, setting("proxy",
        "Apps are served at <name>.<base_domain>.", first=True)] = "localhost"
    tls: Annotated[bool, setting("proxy",
        "Serve apps over HTTPS, with certificates that the gateway orders.",
        first=True)] = False
    acme_directories: Annotated[tuple[_Directory, ...], setting("proxy",
        "With tls: the ACME directory of the authority, then a second one to fall back to; with a "
        "known account: `https://name:key@acme.example/directory` (key in base64url). `internal` "
        "alone: the gateway is its own authority; visitors must trust "
        "`data_dir/certificates/root.pem`."
    )] = (LETS_ENCRYPT,)
    acme_dns_hook: Annotated[tuple[str, ...], setting("proxy",
        "With tls: a program with arguments that sets a TXT record, to order `*.base_domain`. It "
        "gets `add` or `remove`, the record's name and its value.")] = ()
    acme_root_file: Annotated[str, setting("proxy",
        "With tls: a PEM file with the root of a private authority. Empty: the system's roots."
    )] = ""
    wildcard_certificate: Annotated[tuple[str, ...], setting("proxy",
        "With tls: PEM files of your own certificate of `*.base_domain` (with its chain) and of "
        "its key; read again when they change.")] = ()
    dns_servers: Annotated[tuple[str, ...], setting("proxy",
        "Resolvers that check owners' domains, as address or address:port. Empty: the system's."
    )] = ()

    pay_to: Annotated[str, setting("payments",
        "The address that receives payments. Empty only in dev.", first=True)] = ""
    offer_first: Annotated[str, setting("payments",
        "The chain that a 402 offers first, unless the request names another or the wallet has the "
        "money on another. Empty: base.")] = ""
    payment_wait_seconds: Annotated[int, setting("payments",
        "How long a request waits for its payment to be mined.", ge=0, le=60)] = 5
    safe_above_micro_usd: Annotated[int, setting("payments",
        "A transaction that brings more, in micro-USD, counts once its block is `safe` and, with "
        "two nodes in `rpc_urls`, both show it.", ge=0)] = 100_000_000
    watch_seconds: Annotated[int, setting("payments",
        "How often chains are searched for payments, and payments checked again.", ge=1)] = 5
    rpc_timeout_seconds: Annotated[int, setting("payments",
        "How long a chain's node may take to answer.", ge=1, le=60)] = 5
    screening: Annotated[tuple[str, ...], setting("payments",
        "A program with arguments, or one URL, that is asked about each payment before it is "
        "credited.")] = ()
    refund_key_file: Annotated[str, setting("payments",
        "The file with the treasury's private key, which sends refunds: 64 hex digits, readable by "
        "its owner alone. Empty: refunds wait for `moorage operator refund` with a key file."
    )] = ""
    refund_limits_usd: Annotated[tuple[int, ...], setting("payments",
        "What the gateway sends back by itself, in dollars: for one request, to one wallet in a "
        "day, to all in a day. You decide on the rest.",
        min_length=3, max_length=3)] = (100, 200, 1_000)

    memory_gib_month_micro_usd: Annotated[int, setting("prices",
        "The price of 1 GiB of memory for a month, in micro-USD.", ge=0)] = 500_000
    cpu_month_micro_usd: Annotated[int, setting("prices",
        "The price of one CPU core for a month, in micro-USD.", ge=0)] = 500_000
    disk_gib_month_micro_usd: Annotated[int, setting("prices",
        "The price of 1 GiB of disk and volume of a sleeping app for a month, in micro-USD; never "
        "more than the app costs awake.", ge=0)] = 100_000
    minimum_charge_micro_usd: Annotated[int, setting("prices",
        "No quote is below this, in micro-USD.", ge=1)] = 500_000
    build_minutes_per_usd: Annotated[int, setting("prices",
        "Minutes of building that each paid dollar includes; more of them cost credits, as an app "
        "of a build's size does.", ge=0)] = 60
    compensate: Annotated[bool, setting("prices",
        "Give back what an app was charged while the machine or its engine had lost it."
        )] = True

    relayer_key_file: Annotated[str, setting("relayer",
        "The file with the relayer's private key, which settles signed authorizations: 64 hex "
        "digits, readable by its owner alone. Empty: none are taken, except in dev.",
        first=True)] = ""

    app_memory_mib: Annotated[int, setting("apps", "Memory of an app, in MiB.", ge=64)] = 512
    app_cpu_millis: Annotated[int, setting("apps",
        "CPU of an app, in thousandths of a core.", ge=50)] = 500
    app_disk_mib: Annotated[int, setting("apps", "Disk of an app's files, in MiB.", ge=64)] = 1024
    app_volume_mib: Annotated[int, setting("apps",
        "Size of a project's volume, `/data`, in MiB.", ge=32)] = 1024
    listen_seconds: Annotated[int, setting("apps",
        "How long a started app may take to listen on a port; then half as long again to answer "
        "with a status below 500.", ge=1)] = 60
    min_sleep_after_seconds: Annotated[int, setting("apps",
        "The shortest idle time that an owner may choose before an app sleeps, in seconds.",
        ge=1)] = 60
    projects_per_wallet: Annotated[int, setting("apps",
        "How many projects a wallet may have, unless `moorage operator allow` sets another number; "
        "0: any number.", ge=0)] = 0
    retention_days: Annotated[int, setting("apps",
        "How long a suspended project is kept before it is deleted, in days.", ge=1)] = 30

    app_subnet: Annotated[str, setting("networks",
        "The private IPv4 network of the apps.")] = "10.201.0.0/16"
    app_bandwidth_mbit: Annotated[int, setting("networks",
        "What an app may send to the internet, and fetch from it, each in Mbit/s; 0: no limit.",
        ge=0)] = 0
    deny_networks: Annotated[tuple[str, ...], setting("networks",
        "More networks that apps and builds must not reach. In a cluster: those of its pods, "
        "services and nodes that are not private.")] = ()
    allow_networks: Annotated[tuple[str, ...], setting("networks",
        "Private networks that apps may reach.")] = ()

    build_memory_mib: Annotated[int, setting("builds", "Memory of a build, in MiB.", ge=128)] = 2048
    build_seconds: Annotated[int, setting("builds",
        "How long a build may take.", ge=1, le=540)] = 480
    builds_at_once: Annotated[int, setting("builds",
        "How many builds run at the same time.", ge=1)] = 2
    retry_installs: Annotated[bool, setting("builds",
        "Try a failed install once more in another way, if that costs nobody anything."
        )] = True
    build_env: Annotated[dict[str, str], setting("builds",
        "Variables of every build, such as a package mirror's URL.")] = {}
    toolchains: Annotated[bool, setting("builds",
        "Install other versions of Node, Bun, Deno and package managers from npm, as apps ask for "
        "them.")] = True

    base_images: Annotated[dict[str, str], setting("images",
        "Base images of planned apps in place of the official ones, by program (`node`, `python`, "
        "…; `plain` without a language). `{version}`, `{minor}`, `{major}` stand for 3.13.7, 3.13, "
        "3. Docker and Kubernetes only.")] = {}
    dockerfile_registries: Annotated[tuple[str, ...], setting("images",
        "Registries whose images a customer's Dockerfile may name, with the port if there is one; "
        '`"*"`: any that this machine reaches; `"local"`: any image on this machine.'
    )] = ("docker.io", "ghcr.io", "quay.io", "gcr.io", "registry.k8s.io", "mcr.microsoft.com",
          "public.ecr.aws")

    isolation: Annotated[str, setting("machine",
        "The engine that runs apps: root (the sandbox), docker or kubernetes; auto is root."
        )] = "auto"
    moving_from: Annotated[str, setting("machine",
        "The engine that projects leave for `isolation`. It runs what is still on it, until "
        "`moorage operator engine move` has moved it.")] = ""
    docker_host: Annotated[str, setting("machine",
        "The socket of Docker on this machine, for isolation = docker."
    )] = "unix:///var/run/docker.sock"
    disk_reserve_mib: Annotated[int, setting("machine",
        "Space on the disk of data_dir that apps never get, in MiB.", ge=0)] = 2048
    disk_overcommit: Annotated[float, setting("machine",
        "How many times the disk's free space may be promised to apps; with 1 all of them can be "
        "full at once. A volume has its space from the beginning.",
        ge=1, le=100)] = 2.0
    memory_reserve_mib: Annotated[int, setting("machine",
        "Memory for the gateway, the proxy and the system, in MiB. Of the rest, `builds_at_once` "
        "builds have at most half.", ge=64)] = 1024
    memory_overcommit: Annotated[float, setting("machine",
        "How many times the memory of awake apps may be promised; with 1 all of them can use their "
        "limit at once.", ge=1)] = 2.0

    content_url: Annotated[str, setting("content",
        "Where gateways on several machines keep shared files: s3://bucket/prefix, or "
        "file:///directory that all have mounted. Empty: in data_dir, for one machine.",
        pattern=_CONTENT)] = ""
    content_credentials_file: Annotated[str, setting("content",
        "The file with the bucket's keys in AWS's format, readable by its owner alone; with "
        "`region` unless us-east-1, and `endpoint_url` unless Amazon's. Empty: the AWS_… "
        "variables, or the machine's role.")] = ""

    backup_to: Annotated[str, setting("backup",
        "Where `moorage operator backup` without a file sends encrypted backups: s3://bucket/prefix"
        ", or file:///directory that is mounted. Empty: nowhere.", pattern=_CONTENT)] = ""
    backup_recipient: Annotated[str, setting("backup",
        "The public key that they are encrypted to, age1…, of `moorage operator backup --new-key`. "
        "Keep it off pages and repositories, and its private key off this machine.",
        pattern=_RECIPIENT)] = ""
    backup_keep_days: Annotated[int, setting("backup",
        "How many days they are kept there; seven stay, however old. 0: none is ever deleted, and "
        "the bucket's keys need not allow it.", ge=0)] = 90
    backup_credentials_file: Annotated[str, setting("backup",
        "The file with that bucket's keys, as for content_credentials_file.")] = ""

    kubernetes_config: Annotated[str, setting("kubernetes",
        "The kubeconfig of the cluster. Empty: the gateway is a pod of it.")] = ""
    kubernetes_namespace: Annotated[str, setting("kubernetes",
        "How names of wallets' namespaces begin: the same for gateways on one database, and for no "
        "others.", pattern=_NAMESPACE)] = "moorage"
    kubernetes_registry: Annotated[str, setting("kubernetes",
        "Where apps' images are pushed, and nodes pull them: such as `registry.example/apps`."
    )] = ""
    kubernetes_credentials: Annotated[str, setting("kubernetes",
        "The directory with `registry.json` for the gateway at the registry (as Docker's "
        "`config.json`), `pull.json` for nodes; `ca.pem`, `cert.pem`, `key.pem` for a builder at "
        "tcp://.")] = ""
    kubernetes_builder: Annotated[str, setting("kubernetes",
        "What builds images: a Docker daemon at unix:///path or tcp://host:port, or a buildkitd at "
        "such an address after `buildkit+`.")] = ""
    kubernetes_own_image: Annotated[str, setting("kubernetes",
        "Moorage's own image, of this version, for pods of volumes and of the self-test.")] = ""
    kubernetes_runtime_class: Annotated[str, setting("kubernetes",
        "The runtime class of all pods, such as gvisor or kata; the gateway tests it at its start. "
        "Empty: the nodes' own.")] = ""
    kubernetes_user_namespaces: Annotated[bool, setting("kubernetes",
        "Give pods user ids that no user of the node has, where nodes can.")] = False
    kubernetes_storage_class: Annotated[str, setting("kubernetes",
        "The storage class of volumes. Empty: the cluster's default.")] = ""
    kubernetes_resolvers: Annotated[tuple[str, ...], setting("kubernetes",
        "Name servers of pods, such as public ones, which know none of the cluster's services. "
        "Empty: the cluster's own, pods of kube-system.")] = ()
    kubernetes_gateway_networks: Annotated[tuple[str, ...], setting("kubernetes",
        "Networks of gateways outside the cluster, from which they connect to apps.")] = ()

    webhook_allow_networks: Annotated[tuple[str, ...], setting("webhooks",
        "Private networks that webhooks may reach, by plain HTTP too. In dev: loopback.")] = ()

    alert_webhook: Annotated[str, setting("alerts",
        "The URL that gets alerts; plain HTTP only in private networks. Empty: none.",
        pattern=_WEB)] = ""
    alert_webhook_secret_file: Annotated[str, setting("alerts",
        "The file with the secret that signs them, `whsec_` and base64, readable by its owner "
        "alone.")] = ""
    alert_mail_to: Annotated[tuple[_Mail, ...], setting("alerts",
        "The mail addresses that get alerts. Empty: none.")] = ()
    smtp_url: Annotated[str, setting("alerts",
        "The mail server: smtps://user@host:465, or smtp://user@host:587 with STARTTLS (loopback "
        "needs none); an @ in the user's name is `%40`. The sender is the user, or the first of "
        "alert_mail_to.",
        pattern=_SMTP)] = ""
    smtp_password_file: Annotated[str, setting("alerts",
        "The file with the user's password at this server, readable by its owner alone.")] = ""
    alert_digest: Annotated[bool, setting("alerts",
        "Send a daily report in the same ways: money, what waits for you, room, upkeep, alerts."
        )] = False
    # fmt: on

    former_domains: tuple[str, ...] = ()
    """No setting, but what the books add: earlier values of `base_domain` that are not retired."""

    def __repr__(self) -> str:
        return f"Settings(data_dir={self.data_dir!r}, …)"  # the rest may be secret

    @property
    def database(self) -> Path | str:
        """Where the books are: a file's path, or a server's URL."""
        return self.database_url or Path(self.data_dir) / DATABASE

    @property
    def host(self) -> str:
        """The address that the API listens on."""
        return _split(self.listen)[0]

    @property
    def port(self) -> int:
        """The API's port; 0: a free one."""
        return _split(self.listen)[1]

    @property
    def proxy_host(self) -> str:
        """The address that apps are served on."""
        return _split(self.proxy_listen)[0]

    @property
    def proxy_port(self) -> int:
        """The port that apps are served on, without `tls`; 0: a free one."""
        return _split(self.proxy_listen)[1]

    @property
    def operator_host(self) -> str:
        """The address that the operator's port listens on."""
        return _split(self.operator_listen)[0]

    @property
    def operator_port(self) -> int:
        """The operator's port; 0: a free one."""
        return _split(self.operator_listen)[1]

    @property
    def price_list(self) -> PriceList:
        """The operator's prices."""
        return PriceList(
            memory_gib_month=MicroUsd(self.memory_gib_month_micro_usd),
            cpu_month=MicroUsd(self.cpu_month_micro_usd),
            disk_gib_month=MicroUsd(self.disk_gib_month_micro_usd),
            minimum_charge=MicroUsd(self.minimum_charge_micro_usd),
        )

    @property
    def size_list(self) -> Sizes:
        """The sizes of apps, with their prices. Raises InvalidField for names that are the same."""
        standard = Size(
            memory_mib=self.app_memory_mib,
            cpu_millis=self.app_cpu_millis,
            disk_mib=self.app_disk_mib,
            volume_mib=self.app_volume_mib,
        )
        return self.price_list.sizes(standard, listed=self.sizes)

    @property
    def has_public_operator_pages(self) -> bool:
        """Whether the operator's pages answer at `public_url` too: never over plain HTTP."""
        return bool(self.operator_wallets) and self.public_url.startswith("https:")

    @property
    def base_domains(self) -> tuple[str, ...]:
        """The domains below which every app is served."""
        return (self.base_domain, *self.former_domains)

    def kubernetes_credential(self, name: str) -> str:
        """Returns the path of one of the cluster's credentials; "" where there is no such file."""
        path = Path(self.kubernetes_credentials) / name
        return str(path) if self.kubernetes_credentials and path.exists() else ""

    @property
    def internal_authority(self) -> bool:
        """Whether the gateway signs certificates itself."""
        return self.acme_directories == (INTERNAL,)

    @property
    def authorities(self) -> dict[str, tuple[str, str] | None]:
        """The URL of each ACME directory, and the account that it wants: its name and its key."""
        found: dict[str, tuple[str, str] | None] = {}
        for directory in self.acme_directories:
            at = urlsplit(directory)
            url = at._replace(netloc=at.netloc.rpartition("@")[2]).geturl()
            wanted = at.username and at.password
            found[url] = (unquote(at.username or ""), at.password or "") if wanted else None
        return found

    @property
    def asks_elsewhere(self) -> bool:
        """Whether each new app needs a certificate of an authority elsewhere."""
        return self.tls and not (self.internal_authority or self.wildcard_certificate)

    @property
    def roots(self) -> tuple[Path, ...]:
        """The files of authorities to trust, beside the system's, where apps are asked."""
        if self.internal_authority:
            return (self.root_file,)
        return (Path(self.acme_root_file),) if self.acme_root_file else ()

    @property
    def root_file(self) -> Path:
        """The root of the gateway's own authority, for visitors to trust."""
        return Path(self.data_dir) / "certificates/root.pem"


def _split(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)
