"""What OpenAPI says of headers, ids, failures and operations, beside the types of their bodies."""

from typing import Any

from moorage.api.discovery.facts import QUOTE_MINUTES, UPLOAD_MIB, Facts
from moorage.money import usd_text
from moorage.wire.credits import TopUpBody
from moorage.wire.deploy import DeployBody
from moorage.wire.domains import DomainBody
from moorage.wire.projects import ChangeBody

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
        "adopt_project": "A project that a payment alone has opened lives from that payment until "
        "its wallet signs this: then it shares the wallet's credits, and what it has left is part "
        "of them. Asked again, it changes nothing.",
        "delete_project": "The app is stopped; its files, log and /data are gone for good. Unspent "
        "credits stay with the wallet.",
        "store_upload": 'The body is what `upload` of a deploy holds. Then `upload: {"type": '
        '"digest", "sha256": …}` names it in deploys and quotes: its bytes travel once.',
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
