"""What docs/webhooks.md tells receivers to do works, as it stands there."""

import json
import re
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from moorage.events.delivery import MAX_AGE_MS, PAUSES_MS
from moorage.events.signature import new_secret, signed_headers
from moorage.records.event import EventKind

DOCUMENT = (Path(__file__).parents[2] / "docs" / "webhooks.md").read_text()
BODY = '{"data":{"name":"café"}}'.encode()
CALL_VERIFY = (
    "\nconst [secret, headers, body] = JSON.parse(require('fs').readFileSync(0));"
    "\nconsole.log(verify(secret, headers, Buffer.from(body)));"
)

Verify = Callable[[str, dict[str, str], bytes], bool]


def snippet(language: str) -> str:
    (text,) = re.findall(rf"```{language}\n(.*?)```", DOCUMENT, re.DOTALL)
    return str(text)


def in_python(secret: str, headers: dict[str, str], body: bytes) -> bool:
    names: dict[str, Any] = {}
    exec(compile(snippet("python"), "webhooks.md", "exec"), names)
    return bool(names["verify"](secret, headers, body))


def in_node(secret: str, headers: dict[str, str], body: bytes) -> bool:
    done = subprocess.run(
        ["node", "-e", snippet("javascript") + CALL_VERIFY],
        input=json.dumps([secret, headers, body.decode()]),
        capture_output=True,
        text=True,
        check=True,
    )
    return {"true": True, "false": False}[done.stdout.strip()]


@pytest.mark.parametrize("verify", [in_python, in_node])
def test_receivers_code_takes_what_is_signed_and_nothing_else(verify: Verify) -> None:
    secret, now = new_secret(), int(time.time())

    def signed(at: int) -> dict[str, str]:
        return signed_headers(secret=secret, message_id="evt_1", timestamp_seconds=at, body=BODY)

    assert verify(secret, signed(now), BODY)
    rotated = signed(now)
    rotated["webhook-signature"] = "v1,AAAA " + rotated["webhook-signature"]
    assert verify(secret, rotated, BODY)
    assert not verify(secret, signed(now), BODY + b" ")
    assert not verify(new_secret(), signed(now), BODY)
    assert not verify(secret, signed(now - 600), BODY)


def test_every_type_of_event_has_a_row() -> None:
    assert set(re.findall(r"^\| `(\w+\.\w+)` \|", DOCUMENT, re.MULTILINE)) == set(EventKind)


def test_pauses_are_the_ones_that_are_made() -> None:
    (listed,) = re.findall(r"tried again after\n(.*?), then every (\d+) h, until", DOCUMENT)
    units = {"s": 1000, "min": 60_000, "h": 3_600_000}
    pauses = [int(number) * units[unit] for number, unit in re.findall(r"(\d+) (\w+)", listed[0])]
    assert (*pauses, int(listed[1]) * units["h"]) == PAUSES_MS
    assert 3 * 24 * units["h"] == MAX_AGE_MS
