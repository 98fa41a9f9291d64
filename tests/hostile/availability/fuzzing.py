"""Requests made up from a gateway's own OpenAPI document: right, nearly right and broken ones.

The same seed, number and document give the same request, but for signatures' times and nonces.
"""

import base64
import hashlib
import json
import random
import time
import uuid
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlsplit

from coincurve import PrivateKey
from eth_hash.auto import keccak

from support.clients.openapi_schema import Described
from support.clients.raw_http import chunked, request

_DOMAIN = keccak(
    keccak(b"EIP712Domain(string name,string version)") + keccak(b"Moorage") + keccak(b"2")
)
_REQUEST = keccak(
    b"Request(address wallet,string host,string method,string path,bytes32 bodyDigest,"
    b"uint256 timestamp,string nonce)"
)
_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "OPTIONS", "TRACE", "BREW")
_TEXTS = (
    *("", " ", "\0", "null", "true", "-1", "0", "1e999", "NaN", "latest", "../..", "%00", "%ff"),
    *("é", "\ufdfa" * 50, "\U0001f4a3" * 20, "\u202egnp.exe", "\ud800", "\udfff\ud800", "\ufeff"),
    *("a" * 5_000, "'; DROP TABLE projects;--", "${jndi:x}", "{{7*7}}", "<script>", "\r\nX: y"),
    *("0x" + "0" * 64, "0x" + "f" * 63, "0x" + "1" * 40, str(uuid.UUID(int=0)), "https://[::1"),
    *("https://example.com:99999/", "http://169.254.169.254/", "2026-02-30T25:00:00Z", "9" * 400),
)
_NUMBERS = (0, -1, 1, 2**31, 2**53 + 1, 2**63, 2**64, -(2**63) - 1, 10**400, 0.5, -0.0, 1e308)


@dataclass(frozen=True)
class Signer:
    """A key that signs fast."""

    key: PrivateKey

    @property
    def address(self) -> str:
        """In lower case."""
        return "0x" + keccak(self.key.public_key.format(compressed=False)[1:])[-20:].hex()

    def sign(self, digest: bytes) -> str:
        """65 bytes, hex."""
        signed = self.key.sign_recoverable(digest, hasher=None)
        return "0x" + (signed[:64] + bytes([signed[64] + 27])).hex()


def _personal(text: str) -> bytes:
    return keccak(b"\x19Ethereum Signed Message:\n%d%s" % (len(text), text.encode()))


def _bound(wallet: str, texts: tuple[str, str, str], body: bytes, stamp: int, nonce: str) -> bytes:
    words = [
        bytes(12) + bytes.fromhex(wallet[2:]),
        *(keccak(text.encode()) for text in texts),
        hashlib.sha256(body).digest(),
        stamp.to_bytes(32, "big"),
        keccak(nonce.encode()),
    ]
    return keccak(b"\x19\x01" + _DOMAIN + keccak(_REQUEST + b"".join(words)))


@dataclass(frozen=True)
class Fuzzed:
    """One request: its bytes, and whether its end is missing."""

    number: int
    method: str
    sent: bytes
    is_cut: bool


class Fuzzer:
    """The requests of a seed.

    `values` are texts that mean something; `ids` exist, by the name of their parameter.
    """

    def __init__(
        self,
        document: dict[str, Any],
        signers: list[Signer],
        values: list[str],
        *,
        ids: dict[str, str],
        seed: int,
    ) -> None:
        self._document = document
        self._described = Described(document)
        self._signers = signers
        self._values = values
        self._ids = ids
        self._seed = seed
        self._host = urlsplit(document["servers"][0]["url"]).netloc
        self._operations = [
            (method.upper(), path, described)
            for path, methods in document["paths"].items()
            for method, described in methods.items()
        ]
        self._used: list[list[tuple[str, str]]] = []

    def make(self, number: int) -> Fuzzed:
        """The request of that number."""
        dice = random.Random(f"{self._seed}:{number}")
        method, template, described = self._operations[number % len(self._operations)]
        if dice.random() < 0.05:
            method = dice.choice(_METHODS)
        path = self._path(dice, template, described, keeps=method != "DELETE")
        body = self._body(dice, described)
        headers = self._headers(dice, described, method, path, body or b"")
        return _written(dice, number, method, path, headers, body)

    def _path(
        self, dice: random.Random, template: str, described: dict[str, Any], *, keeps: bool
    ) -> str:
        """With ids that exist only in what `keeps` them."""
        query = []
        for parameter in self._described.parameters(described):
            if parameter["in"] == "path":
                known = self._ids.get(parameter["name"])
                text = known if known and keeps and dice.random() < 0.7 else self._text(dice)
                text = text or "-"
                template = template.replace(f"{{{parameter['name']}}}", _quoted(text, safe=""))
            elif parameter["in"] == "query" and dice.random() < 0.5:
                query.append(f"{parameter['name']}={_quoted(self._text(dice))}")
        if dice.random() < 0.05:
            query.append(f"{_quoted(self._text(dice))}={_quoted(self._text(dice))}")
        if query and dice.random() < 0.1:
            query *= dice.choice((2, 50))
        return template + ("?" + "&".join(query) if query else "")

    def _text(self, dice: random.Random) -> str:
        if dice.random() < 0.6:
            return dice.choice(self._values)
        if dice.random() < 0.2:
            return str(dice.choice(_NUMBERS))
        return dice.choice(_TEXTS)

    def _body(self, dice: random.Random, described: dict[str, Any]) -> bytes | None:
        if "requestBody" not in described:
            return dice.randbytes(30) if dice.random() < 0.05 else None
        schema = described["requestBody"]["content"]["application/json"]["schema"]
        kind = dice.random()
        if kind < 0.05:
            return dice.choice(
                (None, b"", b"\xef\xbb\xbf{}", b"\xff" * 9, b"[" * 5_000, b"9" * 9_999)
            )
        text = json.dumps(self._value(dice, schema, 0.0 if kind < 0.4 else 0.15))
        if kind > 0.95:
            text = '{"a":1,"a":' + text + "}"
        elif kind > 0.9:
            text = text[: dice.randrange(len(text) + 1)]
        elif kind > 0.87:
            text = text.replace(":", ':{"x":' * 40, 1)
        return text.encode()

    def _value(
        self, dice: random.Random, schema: dict[str, Any], wrong: float, deep: int = 0
    ) -> Any:
        if dice.random() < wrong:
            return dice.choice((None, True, [], {}, [[[]]], *_NUMBERS[:-1], *_TEXTS))
        if "$ref" in schema:
            name = schema["$ref"].rpartition("/")[2]
            return self._value(dice, self._document["components"]["schemas"][name], wrong, deep)
        if "anyOf" in schema:
            return self._value(dice, dice.choice(schema["anyOf"]), wrong, deep)
        if "enum" in schema:
            return dice.choice(schema["enum"])
        kind = schema.get("type")
        match dice.choice(kind) if isinstance(kind, list) else kind:
            case "object":
                return self._object(dice, schema, wrong, deep)
            case "array":
                many = range(dice.randrange(4) if deep < 8 else 0)
                return [self._value(dice, schema.get("items", {}), wrong, deep + 1) for _ in many]
            case "integer" | "number":
                return dice.choice((1, 2, 24, 3000, schema.get("maximum", 7)))
            case "boolean":
                return dice.random() < 0.5
            case "null":
                return None
        return dice.choice((self._text(dice), base64.b64encode(b"listen()").decode(), "index.js"))

    def _object(self, dice: random.Random, schema: dict[str, Any], wrong: float, deep: int) -> Any:
        required = schema.get("required", ())
        made = {
            name: self._value(dice, member, wrong, deep + 1)
            for name, member in schema.get("properties", {}).items()
            if name in required or (dice.random() < 0.4 and deep < 8)
        }
        others = schema.get("additionalProperties")
        if isinstance(others, dict):
            made |= {self._text(dice): self._value(dice, others, wrong, deep + 1)}
        if dice.random() < wrong / 2:
            made[dice.choice(_TEXTS)] = dice.choice(_TEXTS)
        return made

    def _headers(
        self, dice: random.Random, described: dict[str, Any], method: str, path: str, body: bytes
    ) -> list[tuple[str, str]]:
        taken = self._described.parameters(described)
        headers = (
            self._signature(dice, method, path, body) if described.get("security") != [] else []
        )
        for name in (each["name"] for each in taken if each["in"] == "header"):
            if dice.random() < 0.2:
                headers.append((name, self._text(dice)))
        if dice.random() < 0.1:
            odd = (
                "Authorization",
                "PAYMENT-SIGNATURE",
                "X-Payment-Hash",
                "Accept",
                "Cookie",
                "Expect",
            )
            headers.append(
                (dice.choice((*odd, "X-Forwarded-For", "Range", "If-Match")), self._text(dice))
            )
        if headers and dice.random() < 0.03:
            headers.append(dice.choice(headers))
        kinds = ("application/json",) * 12 + ("text/plain", "application/json; charset=utf-16", "")
        return [*headers, ("Content-Type", dice.choice(kinds))]

    def _signature(
        self, dice: random.Random, method: str, path: str, body: bytes
    ) -> list[tuple[str, str]]:
        kind = dice.random()
        if kind < 0.05 and self._used:
            return list(dice.choice(self._used[-200:]))
        signer = dice.choice(self._signers)
        stamp, nonce = time.time_ns() // 1_000_000, str(uuid.uuid4())
        if kind < 0.08:
            stamp -= 61_000
        elif kind < 0.1:
            stamp //= 1000
        bound = dice.random() < 0.3
        digest = (
            _bound(signer.address, (self._host, method, path), body, stamp, nonce)
            if bound
            else _personal(f"{signer.address}:{stamp}:{nonce}")
        )
        signature = signer.sign(digest) if kind > 0.14 else "0x" + dice.randbytes(65).hex()
        headers = [
            ("X-Wallet-Address", signer.address),
            ("X-Signature", signature),
            ("X-Timestamp", str(stamp)),
            ("X-Nonce", nonce),
        ]
        if bound:
            headers.append(("X-Signature-Version", "2"))
            hashed = base64.b64encode(hashlib.sha256(body).digest()).decode()
            headers += [("Content-Digest", f"sha-256=:{hashed}:")] if body else []
        self._used.append(headers)
        del self._used[:-400]
        if kind > 0.95:
            place = dice.randrange(len(headers))
            headers = [*headers]
            headers[place] = (headers[place][0], self._text(dice))
        return headers


def _quoted(text: str, *, safe: str = "/") -> str:
    return quote(text.encode(errors="surrogatepass"), safe=safe)


def _written(
    dice: random.Random,
    number: int,
    method: str,
    path: str,
    headers: list[tuple[str, str]],
    body: bytes | None,
) -> Fuzzed:
    """The bytes, framed in one of several ways; a header's line breaks are not ours to send."""
    told = [
        (name, text.encode(errors="surrogatepass").translate(None, b"\r\n\0"))
        for name, text in headers
    ]
    kind = dice.random()
    if body is not None and kind < 0.1:
        framed = [*told, ("Transfer-Encoding", b"chunked")]
        whole = request(method, path, framed, chunked(body, size=dice.choice((1, 7, 1000))))
        return Fuzzed(number, method, whole, is_cut=False)
    if body is not None and kind < 0.16:
        odd = dice.choice(
            (b"-1", b"1e3", b"0x10", b"9" * 30, b"+%d" % len(body), b"%d" % (len(body) + 5))
        )
        return Fuzzed(
            number, method, request(method, path, [*told, ("Content-Length", odd)], body), True
        )
    return Fuzzed(number, method, request(method, path, told, body), is_cut=False)
