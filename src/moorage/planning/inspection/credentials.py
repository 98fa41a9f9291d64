"""Credentials: keys, wallets and tokens, by a file's name and by well-known forms."""

import re
from typing import NamedTuple

_MAX_HITS = 200  # places of one form that are looked at in one file


class _Form(NamedTuple):
    """A secret's form: `begins` is looked for, then `pattern` must match there."""

    begins: bytes
    pattern: re.Pattern[bytes]
    what: str


def secret_file(name: str) -> str | None:
    """Returns what a file of this name is known to be, if it is nothing but a secret."""
    lower = name.lower()
    return next((what for pattern, what in _NAMES if pattern.fullmatch(lower)), None)


_NAMES = [
    (re.compile(pattern), what)
    for pattern, what in (
        (r"\.env(rc|(\.(?!(example|sample|template|dist|defaults|schema)\b).+)?)", "variables"),
        (r"id_(rsa|dsa|ecdsa|ed25519)", "a private SSH key"),
        (r"wallets?\.json|keystore\.json|utc--.{8,}", "a wallet"),
        (r".+\.(p12|pfx|jks|keystore|kdbx)", "a store of keys"),
        (r"\.(pypirc|netrc|pgpass|git-credentials)", "credentials"),
    )
]


def secret_text(data: bytes) -> str | None:
    """Returns what a text holds of the known forms of secrets; takes time linear in its length."""
    lower = data.lower()
    for form in _FORMS:
        if _is_in(form, data):
            return form.what
    for form in _WORDS:
        if _is_in(form, lower):
            return form.what
    if all(word in lower for word in _KEYSTORE):
        return "an encrypted wallet"
    return None


def _is_in(form: _Form, data: bytes) -> bool:
    at = data.find(form.begins)
    for _ in range(_MAX_HITS):
        if at < 0:
            return False
        if form.pattern.match(data, at):
            return True
        at = data.find(form.begins, at + 1)
    return False


KEYS = ("a private key", "a wallet's private key", "a wallet's words", "an encrypted wallet")
"""What a file is about that holds it, unless it is a program or a page."""


def _form(begins: str, rest: str, what: str) -> _Form:
    pattern = re.compile(rb"%b%b(?![0-9A-Za-z])" % (re.escape(begins.encode()), rest.encode()))
    return _Form(begins.encode(), pattern, what)


_KEYSTORE = (b'"ciphertext"', b'"kdfparams"', b'"mac"')  # Web3 Secret Storage, version 3

_FORMS = (
    _Form(
        b"-----BEGIN ",
        re.compile(
            rb"-----BEGIN (?:[A-Z0-9]{1,12} ){0,3}PRIVATE KEY(?: BLOCK)?-----"
            rb"[\s\S]{0,200}?[A-Za-z0-9+/]{40}"
        ),
        "a private key",
    ),
    _form("AKIA", "[0-9A-Z]{16}", "an AWS access key"),
    _form("ghp_", "[0-9A-Za-z]{36}", "a GitHub token"),
    _form("gho_", "[0-9A-Za-z]{36}", "a GitHub token"),
    _form("ghs_", "[0-9A-Za-z]{36}", "a GitHub token"),
    _form("github_pat_", "[0-9A-Za-z_]{50,100}", "a GitHub token"),
    _form("glpat-", "[0-9A-Za-z_-]{20,40}", "a GitLab token"),
    _form("sk_live_", "[0-9A-Za-z]{20,200}", "a Stripe key"),
    _form("rk_live_", "[0-9A-Za-z]{20,200}", "a Stripe key"),
    _form("xoxb-", "[0-9A-Za-z-]{20,200}", "a Slack token"),
    _form("xoxp-", "[0-9A-Za-z-]{20,200}", "a Slack token"),
    _form("sk-ant-", "[0-9A-Za-z_-]{40,200}", "an Anthropic key"),
    _form("sk-proj-", "[0-9A-Za-z_-]{40,200}", "an OpenAI key"),
    _form("npm_", "[0-9A-Za-z]{36}", "an npm token"),
    _form("pypi-AgEIcHlwaS5vcmc", "[0-9A-Za-z_-]{50,300}", "a PyPI token"),
    _form("hf_", "[0-9A-Za-z]{34}", "a Hugging Face token"),
    _form("dop_v1_", "[0-9a-f]{64}", "a DigitalOcean token"),
    _form("SG.", r"[0-9A-Za-z_-]{22}\.[0-9A-Za-z_-]{43}", "a SendGrid key"),
)

_WORDS = (
    _form(
        "private",
        r"""[_-]?key["']?\s{0,4}[:=]\s{0,4}["'`]?(?:0x)?[0-9a-f]{64}""",
        "a wallet's private key",
    ),
    _form(
        "mnemonic",
        r"""["']?\s{0,4}[:=]\s{0,4}["'`]?(?:[a-z]{3,8} ){11,23}[a-z]{3,8}""",
        "a wallet's words",
    ),
    _form("_authtoken", r"\s{0,4}=\s{0,4}[0-9a-z_+/=-]{20,200}", "a token of a package registry"),
)
"""These are looked for in lower case."""
