"""What a client that openapi-python-client made takes each answer for, as JSON.

The argument is the directory of the package `generated`, the input what each operation may answer.
"""

import importlib
import json
import pkgutil
import sys
from typing import get_args, get_type_hints

import httpx

sys.path.insert(0, sys.argv[1])
ROOT = importlib.import_module("generated")
MODELS = importlib.import_module("generated.models")
DEFAULT = importlib.import_module("generated.api.default")
ANSWERS = json.load(sys.stdin)


def told_by(status: int, body: object) -> dict[str, object]:
    """What a deploy's answer becomes: the type, and its fields."""
    answers = httpx.MockTransport(lambda _: httpx.Response(status, json=body))
    client = ROOT.AuthenticatedClient("http://gateway", "", httpx_args={"transport": answers})
    deploy = importlib.import_module("generated.api.default.deploy")
    read = deploy.sync(client=client, body=MODELS.DeployBody.from_dict(ANSWERS["deploy"]))
    return {"type": type(read).__name__, "fields": read.to_dict()}


def kinds(operation: str) -> list[str]:
    """The types that an operation's answers may have."""
    module = importlib.import_module(f"generated.api.default.{operation}")
    (union,) = get_args(get_type_hints(module.sync_detailed)["return"])
    return sorted(kind.__name__ for kind in get_args(union) or (union,))


print(
    json.dumps(
        {
            "operations": {
                each.name: kinds(each.name) for each in pkgutil.iter_modules(DEFAULT.__path__)
            },
            "answers": [told_by(status, body) for status, body in ANSWERS["answers"]],
        }
    )
)
