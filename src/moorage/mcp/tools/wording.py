"""Puts an answer of the API into a tool's words: snake case, and tools in place of paths."""

import re
from typing import Any

_WORDS = {
    "POST /agent/deploy": "deploy",
    "POST /agent/quote": "quote",
    "POST /agent/credits": "top_up",
    "GET /agent/credits": "credits",
    "GET /agent/projects": "list_projects",
    "header X-Use-Existing-Credits: true": "use_existing_credits: true",
    "X-Use-Existing-Credits: true": "use_existing_credits: true",
    "the header PAYMENT-REQUIRED (x402) or WWW-Authenticate (MPP) asks for": "accepts asks for",
    "PAYMENT-SIGNATURE or Authorization: Payment": (
        "x402/payment or org.paymentauth/credential in _meta"
    ),
    "the header X-Payment-Chain names": "the argument chain names",
    "send the same request with X-Payment-Tx, X-Payment-Chain and X-Payment-Token": (
        "call again when credits shows it: it is credited to the wallet that sent it"
    ),
    "sign the request: POST /agent/deploy or /agent/credits with X-Payment-Tx": (
        "it is credited to the wallet that sent it"
    ),
    "send the same request with X-Payment-Tx, the hash of your transaction": (
        "call credits: it is credited to the wallet that sent it"
    ),
    "without X-Payment-Tx": "without that payment",
    "Idempotency-Key": "idempotency_key",
    "X-Payment-Chain": "chain",
    "X-Payment-Token": "token",
    "uniqueName": "name",
    "displayName": "display_name",
}
_LONGEST_FIRST = sorted(_WORDS, key=len, reverse=True)
_FOUND = re.compile(rf"(?<![\w./-])(?:{'|'.join(map(re.escape, _LONGEST_FIRST))})(?![\w/-])")
_OF_THE_APP = frozenset(("text", "build_env", "run_env", "display_name", "description"))
"""What the app or its deployer wrote: lines of logs, names of variables."""

_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


def in_tool_words(answer: Any) -> Any:
    """Returns the body of an answer with its keys in snake case and tools named in its texts."""
    match answer:
        case dict():
            named = ((_HUMP.sub("_", name).lower(), of) for name, of in answer.items())
            return {name: of if name in _OF_THE_APP else in_tool_words(of) for name, of in named}
        case list():
            return [in_tool_words(each) for each in answer]
        case str():
            return _FOUND.sub(lambda match: _WORDS[match[0]], answer)
    return answer
