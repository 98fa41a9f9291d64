"""How an agent uses the gateway: one text, which is `/llms.txt`, `/` for agents, and the skill."""

from dataclasses import dataclass
from importlib.resources import files
from string import Template
from typing import Any

from moorage.money import MicroUsd, decimal_text, usd_text
from moorage.payments.price.quotes import QUOTE_LIFETIME_MS
from moorage.payments.taking.payment_required import Seller
from moorage.records.size import PriceList, Size, Sizes
from moorage.uploads.request import MAX_MONTHS
from moorage.uploads.room import UploadLimits
from moorage.wire.credits import TopUpBody
from moorage.wire.deploy import DeployBody
from moorage.wire.projects import ChangeBody, DomainBody

NAME = "Moorage"
SUMMARY = "Deploy an app by paying for it: no account, no API key, only a crypto wallet."
UPLOAD_MIB = UploadLimits().body_bytes // 1024**2
QUOTE_MINUTES = QUOTE_LIFETIME_MS // 60_000


@dataclass(kw_only=True)
class Facts:
    """The gateway's address, its prices and its rules; some may change while it runs."""

    url: str  # without a slash at the end
    seller: Seller
    settles: bool  # whether it carries out signed authorizations, and pays the gas
    prices: PriceList
    sizes: Sizes
    build_minutes_per_usd: int
    requests_per_minute: int
    retention_days: int
    min_sleep_seconds: int

    @property
    def size(self) -> Size:
        """The size of an app for which none is chosen."""
        return self.sizes.default

    @property
    def month(self) -> MicroUsd:
        """The price of one month of an app of that size."""
        return self.size.month

    @property
    def most(self) -> MicroUsd:
        """The price of the longest deploy."""
        return self.prices.deploy(self.size, months=MAX_MONTHS)

    @property
    def size_text(self) -> str:
        """What an app has, for a person."""
        cores = decimal_text(self.size.cpu_millis, decimals=3).rstrip("0").rstrip(".")
        memory, disk = self.size.memory_mib, self.size.disk_mib
        return f"{memory} MiB of memory, {cores} CPU cores, {disk} MiB of disk"

    @property
    def price_text(self) -> str:
        """What it costs, for a person."""
        return (
            f"{usd_text(self.month)} a month for an app of {self.size_text}; "
            f"a payment is {usd_text(self.prices.minimum_charge)} or more"
        )

    @property
    def asleep_text(self) -> str:
        """What it costs asleep, for a person."""
        asleep = self.size.asleep_month
        share = f", {100 * asleep // self.month} % of its price" if self.month else ""
        return f"{usd_text(asleep)} a month{share}"

    @property
    def chains_text(self) -> str:
        """What may be paid with, for a person."""
        return "; ".join(
            f"{' or '.join(token.symbol for token in chain.tokens)} on {chain.name} "
            f"(chain id {chain.chain_id})"
            for chain in self.seller.chains
        )


WALLET_HEADERS = {
    "X-Wallet-Address": "the wallet, 0x and 40 hex digits, in any letter case",
    "X-Signature": "hex of 65 bytes, EIP-191 personal_sign of `{wallet}:{timestamp}:{nonce}`, the "
    "three headers' texts; longer for a contract wallet (ERC-1271, ERC-6492), whose chain is named "
    "by X-Wallet-Chain, arbitrum by default. With X-Signature-Version: 2 it is bound to this one "
    "request by EIP-712, domain `EIP712Domain(string name,string version)` with Moorage and 2, "
    "message `Request(address wallet,string host,string method,string path,bytes32 bodyDigest,"
    "uint256 timestamp,string nonce)`; a body's SHA-256 is then in Content-Digest (RFC 9530)",
    "X-Timestamp": "Unix time in milliseconds, within 60 s of the gateway's clock",
    "X-Nonce": "a UUID, used once",
}
SIGN_IN = "in place of the wallet headers: base64 of x402's sign-in-with-x (EIP-4361), once"
BOUND = "2: X-Signature signs this very request (EIP-712, see X-Signature)"
BOUND_NOTE = (
    "It moves money or power: X-Signature-Version must be 2, and Idempotency-Key must be sent."
)
MANAGED = "a manage token, in place of the four wallet headers, for its project"
PAYMENT_HEADERS = {
    "X-Payment-Tx": "hash of an ERC-20 transfer that pays",
    "X-Payment-Chain": "the chain it was made on; arbitrum by default",
    "X-Payment-Token": "the token used; usdc by default",
    "X-Use-Existing-Credits": "true: share credits with active projects",
    "Idempotency-Key": "a repeat with the same key and body gets the same answer, for 24 hours",
    "X-Dry-Run": "true: all checks and the price, no side effect",
}
IDS = {
    "projectId": "the project's id, or its name",
    "deploymentId": "the deployment's id; `latest` is the newest, whatever became of it",
    "exportId": "the export's id",
    "domain": "the host name",
    "sha256": "SHA-256 of the request's body, 64 hex digits",
    "eventId": "the event's id",
    "linkId": "the link's id",
    "delegationId": "the delegation's id",
    "address": "0x and 40 hex digits",
}

FAILURES = {
    402: "What to pay and every way to pay it, in the body and in WWW-Authenticate and "
    "PAYMENT-REQUIRED; or what became of a payment that came with the request.",
    409: "It was done already, or can't be done now; `code` says which.",
}
COMMON_FAILURES = {
    400: "the request is wrong, `field` or `path` says where, nothing changed.",
    401: "the signature is missing, wrong or too old, `code` says which; sign afresh.",
    403: "it belongs to another wallet, or the operator has suspended it.",
    404: "there is no such thing.",
    408: "the body came too slowly.",
    413: "the body is too large.",
    429: "too many requests, Retry-After says when to send the next.",
    502: "the chain's node can't be reached, nothing is recorded; send the same again.",
    503: "the gateway can't do it now, Retry-After says when to try again.",
}
"""What any operation may answer."""

EXAMPLES: dict[type, dict[str, Any]] = {
    DeployBody: {
        "uniqueName": "hello-agent",
        "displayName": "Hello",
        "upload": {
            "type": "files",
            "files": [{"path": "index.html", "content": "PGgxPkhlbGxvPC9oMT4="}],
        },
    },
    TopUpBody: {"amount_usd": 5},
    ChangeBody: {"runEnvs": {"MODE": "fast", "OLD": None}, "healthPath": "/healthz"},
    DomainBody: {"domain": "shop.example.com"},
}


def guidance(facts: Facts) -> str:
    """Returns how to begin, in a few sentences."""
    return (
        f"Read {facts.url}/llms.txt first. Sign each request with your wallet (four headers). POST "
        "/agent/quote checks an app and tells its price for nothing. POST /agent/deploy answers "
        "402 with every way to pay; send the same request again with the payment, then poll the "
        "deployment's status until it is ready or failed. To change an app, deploy again under "
        "the same uniqueName. Never pay twice: the `payment` member says what became of a payment."
    )


def operation(identity: str, facts: Facts) -> str:
    """Returns what is to be known of an operation beyond its summary; mostly nothing."""
    return {
        "deploy": _deploy(facts),
        "pay_to_deploy": "For any client of x402 or MPP: a payment alone opens a new name for its "
        "whole price, and changes nothing that was there. The signer of the payment has the "
        "project. Poll status_url with Authorization: Bearer and the manage_token.",
        "pay_for_credits": "The wallet that signed the payment has the credits.",
        "quote": "Nothing is stored, started or charged. The body is that of POST /agent/deploy.",
        "top_up": "Credits let all apps of the wallet run longer. Without a body the minimum is "
        f"asked for, {usd_text(facts.prices.minimum_charge)}.",
        "status": "Poll every few seconds; each deployment has a rate limit of its own. `ready` "
        "has an `endpoint` that answers; `failed` has a `reason`.",
        "change_project": "What is left out stays. Variables and health path are taken over by a "
        "restart without a build; poll the deployment that the answer names. A paused project "
        f"burns nothing, takes no deploys, and is kept for {facts.retention_days} days.",
        "roll_back": "Files, variables and health path of the earlier version come back; /data "
        "stays as it is.",
        "make_export": "One of a project is made at a time, at most every ten minutes, and kept "
        "for a day; it costs nothing. To deploy one, name its digest in `upload` of a deploy: "
        "settings that the deploy leaves out come from it, and /data of a new project begins with "
        "its own.",
        "set_purse": "A project burns its purse first; then, if `shared`, the wallet's credits. At "
        "`limit_usd_month` it is suspended until the next month (UTC), or the limit is raised.",
        "adopt_project": "A project that a payment alone has opened lives from that payment until "
        "its wallet signs this: then it shares the wallet's credits, and what it has left is part "
        "of them. Asked again, it changes nothing.",
        "offer_project": "Only the wallet that it names can take the project. Until then it is "
        "its giver's, who may end the offer. Credits and variables stay with the giver unless they "
        "are named to go along.",
        "accept_offer": "From this moment the project burns the taker's credits and is no more its "
        "giver's: tokens, links and archives of it end. Its app, address and data stay.",
        "make_delegate": "The owner signs `typed` (EIP-712, the domain of signed requests); it "
        "or the delegate sends it. The delegate signs requests as itself, by version 2 with "
        "`address onBehalfOf` behind `wallet`, and adds X-On-Behalf-Of: the owner. Scopes: read, "
        "deploy, delete; nothing that is bound.",
        "set_recovery": "The first address counts at once; what changes later counts after the "
        "wait, and the address in force is told.",
        "claim_wallet": "When the wait is over, it acts for the wallet, by X-On-Behalf-Of. "
        "Meanwhile apps run, and nothing is paid back, transferred or changed.",
        "delete_project": "The app is stopped; its files, log and /data are gone for good. Unspent "
        "credits stay with the wallet.",
        "store_upload": 'The body is what `upload` of a deploy holds. Then `upload: {"type": '
        '"digest", "sha256": …}` names it in deploys and quotes: its bytes travel once.',
        "begin_run": "In a copy of the files that serve, with their variables and /data. "
        "It burns by the second; its log tells how it ended.",
        "show_logs": "Lines of one build, or of one version of the app.",
    }.get(identity, "")


def _deploy(facts: Facts) -> str:
    return (
        f"At most {UPLOAD_MIB} MB. Everything is checked before a 402 asks for money; its quote "
        f"and the name are kept for {QUOTE_MINUTES} minutes. What is paid becomes credits, "
        f"which the app burns at {usd_text(facts.month)} a month from its first ready on. At "
        f"zero it is suspended and kept for {facts.retention_days} days; a top-up starts it again. "
        "The uniqueName of a project of your own redeploys it: this costs nothing but needs "
        "credits, the old version serves until the new one is healthy, and variables, health path "
        "and volume are kept; all other settings begin from their defaults. "
        f"{facts.requests_per_minute} unpaid requests a minute for each wallet."
    )


SKILL = "moorage"

_TEST_VECTOR = {
    "test_key": "0x" + 32 * "42",
    "test_text": "0x17c5185167401eD00cF5F5b2fc97D9BBfDb7D025:1767225600000:"
    "6f1c2a9e-0d3b-4c58-8a71-2b9d5e4f7a60",
    "test_signature": "0x7dd7f95dcbf8b9aaf7a7ae6ac0f4cea40341f9396ca1b09cd38b61fafaaaaa71"
    "1f98c343f3bc7d08f749c6bc3cb5516874af81678b7bb3b020502b91ddce93c81c",
}


def template(name: str) -> Template:
    """Returns a text of this room, with `$names` for what facts say."""
    return Template(files(__package__).joinpath(name).read_text("utf-8"))


def llms_text(facts: Facts) -> str:
    """Returns the whole text."""
    return template("guide.md").substitute(words(facts), **_TEST_VECTOR)


def skill_text(facts: Facts) -> str:
    """Returns it as an agent skill (`SKILL.md`), under another heading."""
    _, _, body = llms_text(facts).partition("\n")
    front = f"name: {SKILL}\ndescription: {skill_description(facts)}\nlicense: Apache-2.0"
    return f"---\n{front}\n---\n\n# Deploy with {NAME}\n{body}"


def skill_description(facts: Facts) -> str:
    """Returns what the skill does, and when it is to be used."""
    return (
        f"Deploys web apps to {facts.url} and pays for them with a crypto wallet. Use it to put an "
        "app or a site online, to change, extend, roll back or delete it, or to read its logs."
    )


def words(facts: Facts) -> dict[str, object]:
    """Returns what the texts of this room have in places of `$names`."""
    return {
        "name": NAME,
        "summary": SUMMARY,
        "url": facts.url,
        "price": facts.price_text,
        "month": usd_text(facts.month),
        "asleep": facts.asleep_text,
        "chains": facts.chains_text,
        "pay_to": facts.seller.pay_to,
        "gas": " The gateway pays the gas." if facts.settles else "",
        "data": _data(facts),
        "refunds": facts.seller.refunds,
        "operator": _operator(facts),
        "max_months": MAX_MONTHS,
        "build_minutes": facts.build_minutes_per_usd,
        "retention_days": facts.retention_days,
        "upload_mib": UPLOAD_MIB,
        "quote_minutes": QUOTE_MINUTES,
        "requests": facts.requests_per_minute,
    }


def _data(facts: Facts) -> str:
    volume_mib = facts.size.volume_mib
    return (
        f"`settings.volume: true` gives the project `/data` (`DATA_DIR`, {volume_mib} MiB). "
        "All other files that an app writes are lost at the next deploy."
    )


def _operator(facts: Facts) -> str:
    terms, contact = facts.seller.terms_url, facts.seller.contact
    return f"Terms: {terms or 'none are given'}. Contact: {contact or 'none is given'}."
