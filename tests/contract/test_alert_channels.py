"""Alerts reach their operator over a real server of mail and a real receiver, whatever fails."""

import asyncio
import base64
import json
import socket
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiohttp import web
from standardwebhooks import Webhook

from moorage.cli.operator.gateway import OperatorOptions, alerts
from moorage.clock import SystemClock
from moorage.core import Core
from moorage.errors import ConfigurationInvalid, DatabaseUnavailable
from moorage.events.delivery import NotDelivered
from moorage.gateway.alert_channels import (
    DatabaseWatch,
    Mailbox,
    Message,
    channels_of,
    loops_of_channels,
)
from moorage.loop import Loop
from moorage.settings import Settings, load_settings
from moorage.storage.database import Database
from moorage.storage.operation import alerts as rows
from moorage.storage.operation.alerts import Alert
from moorage.storage.several.leases import Leases
from moorage.storage.vault import KEY_BYTES, Vault
from support.gateway.clock import MINUTE_MS, MovableClock
from support.gateway.mail_server import PASSWORD, USER, MailServer, mail_server
from support.gateway.receiver import receiving
from support.gateway.self_signed import self_signed

SECRET = "whsec_" + base64.b64encode(b"the secret that signs alerts....").decode()
HOST = "mail.example.com"
TO = ("ops@example.com", "night@example.com")
MESSAGE = Message(id="msg_1", type="gateway.test", at_ms=0, subject="Här", text="ü\n", data={})


@pytest.fixture
def certificate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext:
    """Of HOST, which is this machine meanwhile; it is trusted."""
    whole, trusted = self_signed(HOST)
    file, root = tmp_path / "mail.pem", tmp_path / "root.pem"
    file.write_bytes(whole)
    root.write_text(trusted)
    monkeypatch.setenv("SSL_CERT_FILE", str(root))
    real: Callable[..., Any] = socket.getaddrinfo

    def resolved(host: str, *rest: Any, **named: Any) -> Any:
        return real("127.0.0.1" if host == HOST else host, *rest, **named)

    monkeypatch.setattr(socket, "getaddrinfo", resolved)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    return context


def channel(server: MailServer, scheme: str, *, password: str = PASSWORD) -> Mailbox:
    url = f"{scheme}://{USER.replace('@', '%40')}@{HOST}:{server.port}"
    return Mailbox(url, TO, password=password)


async def refusal(of: Mailbox) -> str:
    with pytest.raises(NotDelivered) as refused:
        await of.send(MESSAGE, 0)
    return str(refused.value)


@pytest.mark.parametrize("scheme", ["smtps", "smtp"])
async def test_mail_goes_over_tls_from_its_user_to_all(
    certificate: ssl.SSLContext, scheme: str
) -> None:
    first = scheme == "smtps"
    with mail_server(**{"smtps" if first else "starttls": certificate}) as server:
        await channel(server, scheme).send(MESSAGE, 0)
        assert "535" in await refusal(channel(server, scheme, password="another"))
        server.refuses = True
        assert "451" in await refusal(channel(server, scheme))
    (mail,) = server.got
    assert (mail["From"], mail["To"], server.recipients) == (USER, ", ".join(TO), [list(TO)])
    assert (mail["Subject"], mail["Message-ID"]) == ("Här", "<msg_1@example.com>")
    assert mail.get_content().strip() == "ü"
    assert server.authenticated == [True]


@pytest.mark.parametrize("scheme", ["smtps", "smtp"])
async def test_no_password_is_given_to_a_server_that_nobody_vouches_for(
    certificate: ssl.SSLContext, scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSL_CERT_FILE")
    with mail_server(**{"smtps" if scheme == "smtps" else "starttls": certificate}) as server:
        assert "CERTIFICATE_VERIFY_FAILED" in await refusal(channel(server, scheme))


async def test_server_elsewhere_that_offers_no_tls_gets_no_mail(
    certificate: ssl.SSLContext,
) -> None:
    with mail_server() as server:
        assert "STARTTLS" in await refusal(channel(server, "smtp"))
    assert server.got == []
    assert "refused" in await refusal(channel(server, "smtp"))  # it is gone


def secret_file(directory: Path, text: str = SECRET, *, mode: int = 0o600) -> str:
    path = directory / "alerts.key"
    path.write_text(text)
    path.chmod(mode)
    return str(path)


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"alert_webhook": "https://example.com/hook"}, "alert_webhook_secret_file"),
        ({"alert_webhook": "http://example.com", "alert_webhook_secret_file": "good"}, ""),
        ({"alert_webhook": "https://x@example.com", "alert_webhook_secret_file": "good"}, "user"),
        ({"alert_webhook": "https://example.com", "alert_webhook_secret_file": "open"}, "600"),
        ({"alert_webhook": "https://example.com", "alert_webhook_secret_file": "bad"}, "whsec_"),
        ({"alert_mail_to": TO}, "smtp_url"),
        ({"smtp_url": f"smtps://{HOST}"}, "alert_mail_to"),
        ({"smtp_url": f"smtps://ann@{HOST}", "alert_mail_to": TO}, "smtp_password_file"),
        ({"smtp_url": f"smtps://{HOST}:99999", "alert_mail_to": TO}, "smtp_url"),
        ({"alert_digest": True}, "alert_digest"),
    ],
)
def test_what_cannot_work_is_refused_by_its_name(
    tmp_path: Path, given: dict[str, Any], named: str
) -> None:
    made = {"good": (SECRET, 0o600), "open": (SECRET, 0o644), "bad": ("whsec_!", 0o600)}
    if kind := given.get("alert_webhook_secret_file"):
        given = given | {"alert_webhook_secret_file": secret_file(tmp_path, *made[kind][:1])}
        (tmp_path / "alerts.key").chmod(made[kind][1])
    settings = load_settings(file=None, environ={}, **given)
    if named:
        with pytest.raises(ConfigurationInvalid, match=named):
            channels_of(settings)
    else:  # plain HTTP goes to private addresses alone, which a name shows when it is resolved
        assert list(channels_of(settings)) == ["webhook"]


class Telling:
    """The loops that tell of alerts, over a database; a restart makes others."""

    def __init__(self, db: Database, clock: MovableClock, settings: Settings) -> None:
        vault = Vault([bytes(KEY_BYTES)])
        leases = Leases(db=db, holder="a gateway", clock=clock)
        core = Core(db=db, vault=vault, leases=leases, clock=clock, data_dir=Path())
        self._db, self._clock = db, clock
        self.loops: dict[str, Loop] = {
            each.name: each for each in loops_of_channels(core, settings, self._no_digest)
        }

    async def _no_digest(self) -> Message:
        raise AssertionError

    async def tick(self) -> None:
        for name in ("alerts by webhook", "alerts by mail"):
            await self.loops[name].tick()

    async def put(self, *numbers: int, **state: int) -> None:
        now_ms = self._clock.now_ms()
        async with self._db.transaction(durable=False) as tx:
            for number in numbers:
                alert = Alert(
                    id=f"alr_{number}",
                    gateway="",
                    rule="MoorageNodeDown",
                    labels=json.dumps({"node": str(number)}),
                    summary=f"node {number} is down",
                    began_ms=now_ms,
                    fired_ms=now_ms,
                )
                await rows.put(tx, msgspec.structs.replace(alert, **state))


async def test_channel_that_is_down_is_tried_again_and_holds_up_no_other(
    db: Database, tmp_path: Path
) -> None:
    clock = MovableClock(SystemClock().now_ms())  # receivers refuse what is signed long ago

    async def down(_: web.Request) -> web.StreamResponse:
        return web.Response(status=500)

    with mail_server() as mail:
        async with receiving() as hook:
            settings = load_settings(
                file=None,
                environ={},
                public_url="https://gw.example.com",
                alert_webhook=hook.url,
                alert_webhook_secret_file=secret_file(tmp_path),
                alert_mail_to=TO,
                smtp_url=f"smtp://127.0.0.1:{mail.port}",
            )
            telling = Telling(db, clock, settings)
            hook.answer = down
            await telling.put(1)
            await telling.tick()
            await telling.put(1, ended_ms=clock.now_ms())
            await telling.put(*range(2, 302))
            await telling.tick()
            assert len(hook.got) == 1  # 10 s have not passed
            assert [each["Subject"] for each in mail.got] == [
                "[gw.example.com] firing: node 1 is down",
                "[gw.example.com] 300 firing, 1 resolved: node 10 is down",
            ]
            assert len(mail.got[1].get_content()) < 20_000
            hook.answer = None
            clock.advance(MINUTE_MS)
            telling = Telling(db, clock, settings)  # after a restart
            for _ in range(4):
                await telling.tick()
    ids = [headers["webhook-id"] for headers, _ in hook.got]
    assert [ids[0] == each for each in ids] == [True, True, False]
    assert all(Webhook(SECRET).verify(body, headers) for headers, body in hook.got)
    last = hook.documents[-1]["data"]
    assert (len(last["alerts"]), last["more"]) == (100, 201)
    first = hook.documents[0]["data"]["alerts"][0]
    assert (first["id"], first["state"], first["severity"]) == ("alr_1", "firing", "ticket")
    assert first["do"]
    assert len(mail.got) == 2


class SilentDatabase:
    """One that answers, or does not."""

    answers = False

    async def check(self) -> None:
        if not self.answers:
            raise DatabaseUnavailable


async def test_database_that_does_not_answer_is_told_of_without_it(
    clock: MovableClock, tmp_path: Path
) -> None:
    silent: Any = SilentDatabase()
    leases = Leases(db=silent, holder="a gateway", clock=clock)
    vault = Vault([bytes(KEY_BYTES)])
    core = Core(db=silent, vault=vault, leases=leases, clock=clock, data_dir=tmp_path)
    async with receiving() as hook:
        key = secret_file(tmp_path)
        given = {"alert_webhook": hook.url, "alert_webhook_secret_file": key}
        settings = load_settings(file=None, environ={}, **given)
        watch = DatabaseWatch(core, settings)
        told = []
        for minute in range(8):
            silent.answers = minute >= 5
            await watch.tick()
            told.append([each["data"]["alerts"][0]["state"] for each in hook.documents])
            clock.advance(MINUTE_MS)
    fired, over = ["firing"], ["firing", "resolved"]
    assert told == [[], [], fired, fired, fired, over, over, over]
    assert hook.documents[0]["data"]["alerts"][0]["labels"] == {"part": "database"}


async def test_operator_tries_each_way_and_is_told_what_was_answered(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with receiving() as hook:
        config = tmp_path / "moorage.toml"
        config.write_text(
            f'[alerts]\nalert_webhook = "{hook.url}"\n'
            f'alert_webhook_secret_file = "{secret_file(tmp_path)}"\n'
            'alert_mail_to = ["ops@example.com"]\nsmtp_url = "smtp://127.0.0.1:1"\n'
        )
        options = OperatorOptions(config=config)
        assert await asyncio.to_thread(alerts, "test", options=options) == 1
    said = capsys.readouterr().out
    assert "webhook: ok: HTTP 200" in said
    assert "mail: FAILED" in said
    assert [each["type"] for each in hook.documents] == ["gateway.test"]
