"""Clients that others' generators make of our OpenAPI document: no warning, every error typed."""

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import msgspec
import pytest

from moorage.api.discovery.guide import EXAMPLES
from moorage.api.discovery.openapi import openapi_document
from moorage.api.operations import OPERATIONS
from moorage.wire.deploy import DeployBody
from support.gateway.discovery_facts import FACTS

pytestmark = pytest.mark.root

DIRECTORY = Path(__file__).parent
PROGRAMS = DIRECTORY / "node_modules/.bin"
PYTHON = DIRECTORY.parents[1] / ".venv-clients/bin"
PATIENCE_SECONDS = 240  # only to end a hung test

PROBLEM = {"error": "It failed.", "code": "internal_error", "retryable": True}
DEMAND = PROBLEM | {
    "amount_usd": 0.5,
    "amount_token": "500000",
    "current_credit_balance_usd": 0.0,
    "active_projects": 0,
    "pay_to": "0x7EA5",
    "payment_chain": "arbitrum",
    "token": "usdc",
    "token_address": "0xaf88",
    "chain_id": 42161,
    "decimals": 6,
    "expires_at": 1_764_000_000,
    "supported_chains": [{"chain": "base", "chain_id": 8453, "tokens": ["usdc"]}],
}
USED = PROBLEM | {"projectId": "p", "deploymentId": "d"}


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("openapi") / "openapi.json"
    file.write_bytes(msgspec.json.encode(openapi_document(OPERATIONS, facts=FACTS)))
    return file


@pytest.fixture(scope="module")
def package(document: Path) -> Path:
    """The directory of the package that openapi-python-client made."""
    made = document.parent / "generated"
    told = run(
        *(PYTHON / "openapi-python-client", "generate", "--path", document, "--meta", "none"),
        *("--output-path", made, "--fail-on-warning"),
    )
    assert "warning" not in told.lower(), told
    return document.parent


def run(*command: str | Path, given: str = "") -> str:
    """What a program prints; it must succeed."""
    path = f"{PYTHON}:{os.environ['PATH']}"
    done = subprocess.run(
        [str(part) for part in command],
        check=False,
        capture_output=True,
        text=True,
        input=given,
        env=os.environ | {"PATH": path},
        timeout=PATIENCE_SECONDS,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def told(package: Path) -> dict[str, Any]:
    """What the generated client for Python takes answers for."""
    answers = [[402, DEMAND], [402, PROBLEM], [409, USED], [400, PROBLEM], [503, PROBLEM]]
    given = json.dumps({"deploy": EXAMPLES[DeployBody], "answers": answers})
    printed = run(PYTHON / "python", DIRECTORY / "generated_client.py", package, given=given)
    read: dict[str, Any] = json.loads(printed)
    return read


def test_every_operation_of_the_generated_client_has_typed_errors(told: dict[str, Any]) -> None:
    for operation in OPERATIONS:
        kinds = set(told["operations"][operation.handler.__name__])
        if operation.fails or operation.signed:
            assert "Problem" in kinds, operation.path
        assert ("PaymentDemand" in kinds) == (402 in operation.fails), operation.path
        assert ("PaymentUsed" in kinds) == (409 in operation.fails), operation.path


def test_the_generated_client_reads_each_refusal_as_what_it_is(told: dict[str, Any]) -> None:
    assert [each["type"] for each in told["answers"]] == [
        *("PaymentDemand", "Problem", "PaymentUsed", "Problem", "Problem"),
    ]
    demanded, _, used, *_ = (each["fields"] for each in told["answers"])
    assert demanded == DEMAND
    assert used == USED


def test_the_client_generated_for_typescript_is_typed_and_asks_only_for_what_must_be_sent(
    document: Path,
) -> None:
    printed = run(PROGRAMS / "openapi-typescript", document, "-o", document.parent / "generated.ts")
    assert "warn" not in printed.lower(), printed
    shutil.copy(DIRECTORY / "typed.ts", document.parent)
    run(PROGRAMS / "tsc", "--strict", "--noEmit", document.parent / "typed.ts")
