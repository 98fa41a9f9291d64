import errno
import io
import json
import logging
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

import msgspec
import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from moorage import logs
from moorage.errors import ConfigurationInvalid
from support.gateway.gateway_fixture import DevGateway


def test_log_is_read_while_a_character_is_being_written(tmp_path: Path) -> None:
    (tmp_path / "gateway.log").write_bytes("no room … left".encode()[:9])  # "…" has three bytes
    assert DevGateway(tmp_path).log == "no room \N{REPLACEMENT CHARACTER}"


SIGNATURE = "0x" + "5a" * 65
PRIVATE_KEY = "0x" + "c0ffee11" * 8
TX_HASH = "0x" + "ab12" * 16
PAYLOAD = "eyJ4NDAyVmVyc2lvbiI6MiwicGF5bG9hZCI6eyJzaWduYXR1cmUiOiIweGFiYyJ9fQ"


@pytest.fixture(autouse=True)
def kept_configuration() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    kept = structlog.get_config()
    yield
    structlog.configure(**kept)
    root.handlers[:], root.level = handlers, level


class Output(io.BytesIO):
    @property
    def text(self) -> str:
        return self.getvalue().decode()

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.text.splitlines()]


@pytest.fixture
def output() -> Output:
    output = Output()
    logs.configure(json=True, level="info", stream=output)
    return output


def logged(**fields: object) -> dict[str, Any]:
    output = Output()
    logs.configure(json=True, level="info", stream=output)
    structlog.get_logger().info("event", **fields)
    return output.lines[0]


def test_event_is_one_json_line(output: Output) -> None:
    structlog.get_logger().info("app\nstarted", project="p", seconds=1.5)
    structlog.get_logger().warning("app stopped")

    first, second = output.lines
    timestamp = first.pop("timestamp")
    assert first == {"event": "app\nstarted", "project": "p", "seconds": 1.5, "level": "info"}
    assert second["level"] == "warning"
    assert timestamp.endswith("Z")


def test_line_says_when_it_was_written(output: Output) -> None:
    before = datetime.now(UTC)
    structlog.get_logger().info("now")
    structlog.get_logger().info("within the same second, most likely")

    for line in output.lines:
        assert before <= datetime.fromisoformat(line["timestamp"]) <= datetime.now(UTC)
        assert line["timestamp"].endswith("Z")


def test_line_carries_the_id_of_its_request(output: Output) -> None:
    with structlog.contextvars.bound_contextvars(request_id="r-1"):
        structlog.get_logger().info("inside")
    structlog.get_logger().info("outside")

    assert [line.get("request_id") for line in output.lines] == ["r-1", None]


def test_lines_below_the_level_are_dropped() -> None:
    output = Output()
    logs.configure(json=True, level="Warning", stream=output)
    structlog.get_logger().info("no")
    structlog.get_logger().error("yes")
    assert [line["event"] for line in output.lines] == ["yes"]


def test_unknown_level_is_refused() -> None:
    with pytest.raises(ConfigurationInvalid, match="log_level"):
        logs.configure(json=True, level="loud")


class FullDisk(io.BytesIO):
    """As a log file's, while there is no space."""

    def write(self, _line: Any) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("as_json", [True, False])
def test_line_that_cannot_be_written_ends_nothing_and_is_kept_in_memory(as_json: bool) -> None:
    logs.configure(json=as_json, level="info", stream=FullDisk())
    said = uuid.uuid4().hex

    structlog.get_logger().error("no room", said=said)
    logging.getLogger("another library").error("nor for this")

    (kept,) = logs.recent.find(text=said, level="error", limit=2)
    assert kept["event"] == "no room"


def test_people_get_text() -> None:
    output = Output()
    logs.configure(json=False, level="info", stream=output)
    structlog.get_logger().info("app started", project="my-app")
    assert "app started" in output.text
    assert "project=my-app" in output.text


@pytest.mark.parametrize(
    "name",
    [
        "authorization",
        "Authorization",
        "x-signature",
        "X_SIGNATURE",
        "payment-signature",
        "signature",
        "private_key",
        "privateKey",
        "secret",
        "relayer_secret",
        "password",
        "cookie",
        "api_key",
        "mnemonic",
        "runEnvs",
        "build_vars",
        "env",
        "headers",
        "keys",
    ],
)
@pytest.mark.parametrize("value", ["hunter2", 12345, {"A": "hunter2"}, ["hunter2"], b"hunter2"])
def test_value_of_a_secret_name_never_appears(name: str, value: object) -> None:
    assert logged(**{name: value})[name] == "[redacted]"
    assert logged(outer={"inner": [{name: value}]})["outer"] == {"inner": [{name: "[redacted]"}]}


SECRETS = {
    "signature": SIGNATURE,
    "signature without prefix": SIGNATURE[2:],
    "MPP credential": "Payment " + "YWJjZGVm" * 4,
    "bearer token": "bearer abcdefghijklmnop.qrst",
    "x402 payload": PAYLOAD,
    "private key": PRIVATE_KEY,
    "private key without prefix": PRIVATE_KEY[2:],
    "password in a URL": "postgres://moorage:hunter2@db/moorage",
    "provider key in a path": "https://eth.example.com/v2/Abcdefghijklmnopqrst_12345",
    "two keys in a path": "https://e.com/abcdefghijklmnopqrstuv1/abcdefghijklmnopqrstuv2",
    "key in a query": "https://rpc.example.com/?chain=1&apikey=hunter2",
}
LEAKS = ["5a5a5a", "YWJj", "abcdefghij", PAYLOAD[:12], "ee11c0", "hunter2", "Abcdefgh"]


@pytest.mark.parametrize("secret", SECRETS.values(), ids=SECRETS)
@pytest.mark.parametrize("as_json", [True, False])
def test_secret_shaped_text_never_appears(secret: str, as_json: bool) -> None:
    output = Output()
    logs.configure(json=as_json, level="info", stream=output)
    log = structlog.get_logger()
    log.info(f"sent {secret} to the node")
    log.info("field", text=secret, texts=[secret], nested={"text": {"text": f"<{secret}>"}})
    log.info("object", error=ValueError(secret), data=secret.encode())
    try:
        raise RuntimeError(f"node refused {secret}")
    except RuntimeError:
        log.exception("failed")
    logging.getLogger("library").warning("refused %s", secret)

    assert len(output.text) > 400
    for leak in LEAKS:
        assert leak not in output.text


def test_console_prints_no_local_variables() -> None:
    output = Output()
    logs.configure(json=False, level="info", stream=output)
    local_key = "a local secret"
    try:
        raise RuntimeError("failed")
    except RuntimeError:
        structlog.get_logger().exception("request failed")
    assert "RuntimeError: failed" in output.text
    assert local_key not in output.text


def test_objects_are_named_not_shown() -> None:
    class Signed(msgspec.Struct):
        signature: bytes

    assert logged(signed=Signed(b"Z" * 65))["signed"] == "<Signed>"
    assert logged(data=b"Z" * 65)["data"] == "<65 bytes>"


def test_ordinary_values_are_shown() -> None:
    class Cause(StrEnum):
        CRASHED = "crashed"

    number = uuid.UUID("8d2f7a31-5b0e-4c6a-9f3d-2e1c0b9a8f7e")
    line = logged(
        wallet="0x" + "ab" * 20,
        token="usdc",
        cause=Cause.CRASHED,
        id=number,
        directory=Path("/var/lib/moorage"),
        nothing=None,
        flag=True,
        path=f"/agent/deploy/{number}/{number}/status",
        url="https://my-app.example.com/",
        reason="npm ci: exit code 1 (see https://docs.example.com/cli)",
    )
    del line["timestamp"], line["level"], line["event"]
    assert line == {
        "wallet": "0x" + "ab" * 20,
        "token": "usdc",
        "cause": "crashed",
        "id": str(number),
        "directory": "/var/lib/moorage",
        "nothing": None,
        "flag": True,
        "path": f"/agent/deploy/{number}/{number}/status",
        "url": "https://my-app.example.com/",
        "reason": "npm ci: exit code 1 (see https://docs.example.com/cli)",
    }


@pytest.mark.parametrize("name", ["tx_hash", "tx", "hash", "block_hash", "X-Payment-Tx", "digest"])
def test_hashes_are_shown_whole_where_the_name_says_so(name: str) -> None:
    assert logged(**{name: TX_HASH})[name] == TX_HASH


def test_hashes_elsewhere_keep_their_ends() -> None:
    line = logged(reason=f"transaction {TX_HASH} was reverted")
    assert line["reason"] == "transaction 0xab12…ab12 was reverted"


def test_other_libraries_errors_take_the_same_way_out(output: Output) -> None:
    logging.getLogger("uvicorn.error").info("narration")
    try:
        raise OSError("gone")
    except OSError:
        logging.getLogger("asyncio").exception("task %s failed", "t")

    (line,) = output.lines
    assert (line["event"], line["logger"], line["level"]) == ("task t failed", "asyncio", "error")
    assert "OSError: gone" in line["exception"]


VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.binary()),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(["a", "tx", "b_c"]), VALUES), st.text())
def test_any_values_make_one_line(fields: dict[str, Any], event: str) -> None:
    output = Output()
    logs.configure(json=True, level="info", stream=output)
    structlog.get_logger().info(event, **fields)
    assert output.text.endswith("\n")
    assert output.text.count("\n") == 1


def test_text_that_is_no_unicode_makes_a_line_all_the_same(output: Output) -> None:
    structlog.get_logger().info("odd", name="\udcff", number=2**80)
    assert output.lines[0]["number"] == 2**80
    assert output.lines[0]["timestamp"].endswith("Z")


def test_warnings_are_kept_when_many_other_lines_follow() -> None:
    recent = logs.Recent(lines=2, warnings=1)
    recent.add("warning", b'{"event":"short of gas","level":"warning"}')
    for number in range(5):
        recent.add("info", b'{"event":"request %d","level":"info"}' % number)
    found = [line["event"] for line in recent.find(text="", level="all", limit=9)]
    assert found == ["request 4", "request 3", "short of gas"]


def test_recent_lines_are_found_by_text_and_level() -> None:
    recent = logs.Recent()
    recent.add("info", b'{"event":"request","request_id":"F00D","level":"info"}')
    recent.add("warning", b'{"event":"slow","request_id":"F00D","level":"warning"}')
    recent.add("error", b'{"event":"failed","request_id":"beef","level":"error"}')

    def events(*, text: str = "", level: str = "all", limit: int = 9) -> list[str]:
        return [line["event"] for line in recent.find(text=text, level=level, limit=limit)]

    assert events(text="f00d") == ["slow", "request"]
    assert events(level="warning") == ["failed", "slow"]
    assert events(level="error") == ["failed"]
    assert events(limit=1) == ["failed"]


def test_a_line_too_long_to_be_kept_is_left_out() -> None:
    recent = logs.Recent()
    recent.add("info", b'{"event":"%s"}' % (b"x" * 100_000))
    assert recent.find(text="", level="all", limit=9) == []


@pytest.mark.parametrize("as_json", [True, False])
def test_what_is_logged_is_kept_without_secrets(as_json: bool) -> None:
    logs.configure(json=as_json, level="info", stream=Output())
    structlog.get_logger().info("a line of its own", password="hunter2", id=f"of {as_json}")
    (line,) = logs.recent.find(text=f"of {as_json}", level="all", limit=9)
    assert (line["event"], line["password"]) == ("a line of its own", logs.REDACTED)
    assert "timestamp" in line


def test_line_with_a_name_that_is_no_text_is_found(output: Output) -> None:
    structlog.get_logger().error("unreadable", path="app/\udcff.txt", size=10**400)
    (found,) = logs.recent.find(text="unreadable", level="error", limit=1)
    assert found["path"] == output.lines[0]["path"] == "app/?.txt"
