"""How an operator is told of alerts: messages, and the webhook and the mail that they go by.

Each channel has at most one message under way, which is sent until it is taken. What begins or ends
meanwhile is in the next one: so a flood is one message, and a restart loses and repeats none.
"""

import asyncio
import smtplib
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from email.message import EmailMessage
from email.utils import formatdate
from functools import partial
from ipaddress import ip_address
from operator import itemgetter
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import msgspec
import structlog

from moorage.clock import iso_utc
from moorage.core import Core
from moorage.errors import ConfigurationInvalid, DatabaseUnavailable, InvalidField
from moorage.events.delivery import (
    HEADERS,
    PAUSES_MS,
    Destinations,
    NotDelivered,
    Sender,
    SystemResolver,
)
from moorage.events.signature import SECRET_PREFIX, is_secret, signed_headers
from moorage.gateway.alerts import RULES
from moorage.loop import Loop, Scope
from moorage.money import json_of
from moorage.settings import Settings
from moorage.storage.operation import alerts
from moorage.storage.operation.alerts import Alert, Channel, ChannelName
from moorage.trust import trusting
from moorage.whole_file import secret_text

log = structlog.get_logger()

_DETAILED = 20
_LISTED = 100
_DAY_MS = 86_400_000
_TOLD_LATE_MS = 3 * _DAY_MS  # what ended longer ago is told no more
_SILENT_MS = 120_000
_LONGEST_PAUSE = 4  # of PAUSES_MS: half an hour


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """What is sent. Its receiver knows one that is sent again by its id."""

    id: str
    type: str  # of Standard Webhooks
    at_ms: int
    subject: str
    text: str
    data: dict[str, Any]

    def document(self) -> dict[str, Any]:
        """The body that a webhook is sent; chats show its `text`."""
        return {
            "type": self.type,
            "timestamp": iso_utc(self.at_ms),
            "text": f"{self.subject}\n\n{self.text}",
            "data": self.data,
        }


def new_message(
    kind: str, settings: Settings, subject: str, text: str, *, now_ms: int, **data: Any
) -> Message:
    """Returns a message of a new id, which names the gateway."""
    title = title_of(settings)
    return Message(
        id=f"msg_{uuid.uuid4().hex}",
        type=f"gateway.{kind}",
        at_ms=now_ms,
        subject=f"[{title}] {subject}",
        text=text,
        data={"gateway": title, **data},
    )


def title_of(settings: Settings, gateway: str = "") -> str:
    """Returns what the operator knows the gateway by: its host, and its name of several."""
    host = urlsplit(settings.public_url).netloc or settings.listen
    return f"{host} ({gateway})" if gateway else host


def alerts_message(changed: Iterable[Alert], settings: Settings, *, now_ms: int) -> Message:
    """Returns the message on alerts that fire or have ended, one at least; the worst come first."""
    told = sorted(map(alert_document, changed), key=itemgetter("state", "severity", "began"))
    counts = Counter(each["state"] for each in told)
    rest = Counter(each["rule"] for each in told[_DETAILED:])
    blocks = [_block(each, settings) for each in told[:_DETAILED]]
    if rest:
        listed = ", ".join(f"{rule} × {count}" for rule, count in rest.most_common())
        blocks.append(f"And {rest.total()} more: {listed}. See `moorage operator alerts`.\n")
    states = ", ".join(f"{count} {state}" for state, count in counts.items())
    return new_message(
        "alerts",
        settings,
        f"{states if len(told) > 1 else told[0]['state']}: {told[0]['summary']}",
        "\n".join(blocks),
        now_ms=now_ms,
        alerts=told[:_LISTED],
        more=max(0, len(told) - _LISTED),
    )


def alert_document(alert: Alert) -> dict[str, Any]:
    """Returns an alert as webhooks, pages and commands tell it."""
    rule = RULES.get(alert.rule)  # None for one that an earlier version had
    return {
        "id": alert.id,
        "state": alert.state,
        "severity": rule.severity if rule else "ticket",
        "rule": alert.rule,
        "gateway": alert.gateway,
        "labels": msgspec.json.decode(alert.labels),
        "summary": alert.summary,
        "means": rule.means if rule else "",
        "do": rule.do if rule else "",
        "see": f"docs/run/{rule.see}" if rule and rule.see else "",
        "began": iso_utc(alert.began_ms),
        "ended": None if alert.ended_ms is None else iso_utc(alert.ended_ms),
    }


def _block(told: dict[str, Any], settings: Settings) -> str:
    """Returns an alert as a person reads it."""
    facts = told | {"gateway": title_of(settings, told["gateway"]), "since": told["began"]}
    names = ("gateway", "since", "ended", "means", "do", "see", "rule")
    lines = [f"  {name:<8} {facts[name]}\n" for name in names if facts[name]]
    return f"{told['state'].upper()} ({told['severity']}): {told['summary']}\n{''.join(lines)}"


Send = Callable[[Message, int], Awaitable[str]]
"""Sends a message, at a time in ms; returns what was answered. Raises NotDelivered."""

_PRIVATE = (
    *("127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10"),
    *("::1/128", "fc00::/7"),
)
_DESTINATIONS, _RESOLVE = Destinations(allow=_PRIVATE), SystemResolver(at_once=1)
_TIMEOUT_SECONDS = 10.0


async def _post(url: str, secret: str, message: Message, now_ms: int) -> str:
    """Posts to a URL as wallets' webhooks are posted, signed with the time of this attempt."""
    body = json_of(message.document())
    signed = signed_headers(
        secret=secret, message_id=message.id, timestamp_seconds=now_ms // 1000, body=body
    )
    sender = Sender(destinations=_DESTINATIONS, resolve=_RESOLVE)
    try:
        status = await sender.post(url, headers=HEADERS | signed, body=body)
    finally:
        await sender.close()
    if not 200 <= status < 300:
        raise NotDelivered(f"HTTP {status}")
    return f"HTTP {status}"


class Mailbox:
    """Hands mail to a server: over TLS, or to one on loopback."""

    def __init__(self, url: str, recipients: Sequence[str], *, password: str) -> None:
        """Raises ValueError."""
        parts = urlsplit(url)
        self._host, self._is_smtps = parts.hostname or "", parts.scheme == "smtps"
        self._port = parts.port or (465 if self._is_smtps else 587)
        self._user, self._password = unquote(parts.username or ""), password
        self._recipients = recipients
        self._sender = self._user if "@" in self._user else recipients[0]

    async def send(self, message: Message, _now_ms: int) -> str:
        """As `Send`."""
        mail = EmailMessage()
        mail["From"], mail["To"] = self._sender, ", ".join(self._recipients)
        mail["Subject"] = message.subject
        mail["Date"] = formatdate(message.at_ms / 1000)
        mail["Message-ID"] = f"<{message.id}@{self._sender.rpartition('@')[2]}>"
        mail["Auto-Submitted"] = "auto-generated"  # RFC 3834: nobody's holiday answers it
        mail.set_content(message.text)
        try:
            refused = await asyncio.to_thread(self._hand_over, mail)
        except (OSError, smtplib.SMTPException) as failure:
            raise NotDelivered(f"{type(failure).__name__}: {failure}") from failure
        return f"{self._host} has taken it{f', but not for {refused}' if refused else ''}"

    def _hand_over(self, mail: EmailMessage) -> str:
        """Returns for whom the server does not take it. Raises OSError and SMTPException."""
        at: Any = {"host": self._host, "port": self._port, "timeout": _TIMEOUT_SECONDS}
        tls = trusting()
        with (
            smtplib.SMTP_SSL(**at, context=tls) if self._is_smtps else smtplib.SMTP(**at) as server
        ):
            if not self._is_smtps and not _is_loopback(self._host):
                server.starttls(context=tls)
            if self._user:
                server.login(self._user, self._password)
            return ", ".join(server.send_message(mail, self._sender, self._recipients))


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def channels_of(settings: Settings) -> dict[ChannelName, Send]:
    """Returns the channels that are set. Raises ConfigurationInvalid for what cannot work."""
    found: dict[ChannelName, Send] = {}
    if settings.alert_webhook:
        found[ChannelName.WEBHOOK] = _webhook(settings)
    if settings.alert_mail_to or settings.smtp_url:
        found[ChannelName.MAIL] = _mailbox(settings).send
    if settings.alert_digest and not found:
        raise ConfigurationInvalid("alert_digest: set alert_webhook, or alert_mail_to.")
    return found


def _webhook(settings: Settings) -> Send:
    option = "alert_webhook_secret_file"
    if not settings.alert_webhook_secret_file:
        raise ConfigurationInvalid(
            f"{option}: name the file with the secret that signs what alert_webhook is sent; "
            f'`umask 077; echo "{SECRET_PREFIX}$(openssl rand -base64 32)" > FILE` makes one.'
        )
    secret = secret_text(Path(settings.alert_webhook_secret_file), option=option)
    if not is_secret(secret):
        raise ConfigurationInvalid(f"{option}: must hold {SECRET_PREFIX} and base64.")
    try:
        _DESTINATIONS.check_url(settings.alert_webhook)
    except InvalidField as problem:
        raise ConfigurationInvalid(f"alert_webhook: {problem.message}") from None
    return partial(_post, settings.alert_webhook, secret)


def _mailbox(settings: Settings) -> Mailbox:
    if not settings.alert_mail_to or not settings.smtp_url:
        raise ConfigurationInvalid("alert_mail_to and smtp_url: one of them is of no use alone.")
    file, password = settings.smtp_password_file, ""
    if bool(urlsplit(settings.smtp_url).username) != bool(file):
        raise ConfigurationInvalid("smtp_password_file: needed by a user in smtp_url, and only so.")
    if file:
        password = secret_text(Path(file), option="smtp_password_file")
    try:
        return Mailbox(settings.smtp_url, settings.alert_mail_to, password=password)
    except ValueError as problem:
        raise ConfigurationInvalid(f"smtp_url: {problem}.") from None


WriteDigest = Callable[[], Awaitable[Message]]


class Notifier:
    """Sends by one channel what it has not told yet."""

    def __init__(
        self, core: Core, name: ChannelName, send: Send, settings: Settings, digest: WriteDigest
    ) -> None:
        self._core = core
        self._name = name
        self._send = send
        self._settings = settings
        self._digest = digest

    async def tick(self) -> None:
        """Writes a message if there is none, and tries to deliver it if it is due.

        Raises DatabaseUnavailable.
        """
        now_ms = self._core.clock.now_ms()
        known = await alerts.channels(self._core.db)
        found = known.get(self._name) or Channel(name=self._name)
        if not found.message:
            found = await self._written(found, now_ms)
        if found.message and found.next_ms <= now_ms:
            await self._deliver(found, now_ms)

    async def _written(self, channel: Channel, now_ms: int) -> Channel:
        db, since_ms = self._core.db, now_ms - _TOLD_LATE_MS
        if await alerts.untold(db, channel.name, since_ms=since_ms):
            async with db.transaction(durable=True) as tx:
                changed = await alerts.tell(tx, channel.name, since_ms=since_ms)
                message = alerts_message(changed, self._settings, now_ms=now_ms)
                channel = _with(channel, message)
                await alerts.put_channel(tx, channel)
        elif self._settings.alert_digest and now_ms // _DAY_MS > channel.digest_ms // _DAY_MS:
            channel = _with(channel, await self._digest(), digest_ms=now_ms)
            await self._put(channel)
        return channel

    async def _deliver(self, channel: Channel, now_ms: int) -> None:
        """Tries once. What is not recorded as delivered is sent again, with the same id.

        A message that is refused for a day is given up, so that the next ones are sent.
        """
        message = msgspec.json.decode(channel.message, type=Message)
        try:
            await self._send(message, now_ms)
        except NotDelivered as failure:
            log.warning("alerts are not delivered", channel=channel.name, error=str(failure))
            attempts = channel.attempts + 1
            pause_ms = PAUSES_MS[min(attempts, _LONGEST_PAUSE) - 1] / self._core.speed
            next_ms, error = now_ms + round(pause_ms), str(failure)
            tried: dict[str, Any] = {"attempts": attempts, "next_ms": next_ms, "error": error}
            if now_ms - message.at_ms > _DAY_MS:
                tried["message"] = ""
        else:
            log.info("alerts delivered", channel=channel.name)
            tried = {"message": "", "error": "", "delivered_ms": now_ms}
        await self._put(msgspec.structs.replace(channel, **tried))

    async def _put(self, channel: Channel) -> None:
        async with self._core.db.transaction(durable=True) as tx:
            await alerts.put_channel(tx, channel)


def _with(channel: Channel, message: Message, **others: int) -> Channel:
    text = msgspec.json.encode(message).decode()
    return msgspec.structs.replace(channel, message=text, attempts=0, next_ms=0, **others)


class DatabaseWatch:
    """Tells that the database does not answer: of that no row can be written, and none is read."""

    def __init__(self, core: Core, settings: Settings) -> None:
        """Raises ConfigurationInvalid."""
        self._core = core
        self._settings = settings
        self._channels = channels_of(settings)
        self._alert: Alert | None = None
        self._untold: dict[ChannelName, Message] = {}

    async def tick(self) -> None:
        """Asks the database, and sends what is to be told, once by each channel that takes it."""
        now_ms, alert = self._core.clock.now_ms(), self._alert
        try:
            await self._core.db.check()
        except DatabaseUnavailable:
            self._alert = alert = alert or self._begun(now_ms)
            if alert.fired_ms is None and now_ms - alert.began_ms >= _SILENT_MS / self._core.speed:
                self._tell(msgspec.structs.replace(alert, fired_ms=now_ms), now_ms)
        else:
            if alert is not None and alert.fired_ms is not None:
                self._tell(msgspec.structs.replace(alert, ended_ms=now_ms), now_ms)
            self._alert = None
        for name, message in list(self._untold.items()):
            with suppress(NotDelivered):
                await self._channels[name](message, now_ms)
                del self._untold[name]

    def _begun(self, now_ms: int) -> Alert:
        return Alert(
            id=f"alr_{uuid.uuid4().hex}",
            gateway=self._core.name,
            rule="MooragePartNotReady",
            labels='{"part":"database"}',
            summary=f"database of {title_of(self._settings, self._core.name)} is not well",
            began_ms=now_ms,
        )

    def _tell(self, alert: Alert, now_ms: int) -> None:
        self._alert = alert
        message = alerts_message([alert], self._settings, now_ms=now_ms)
        self._untold = dict.fromkeys(self._channels, message)


def loops_of_channels(core: Core, settings: Settings, digest: WriteDigest) -> tuple[Loop, ...]:
    """Returns a loop for each channel, so that none waits for another, and the database's.

    Raises ConfigurationInvalid.
    """
    watch = DatabaseWatch(core, settings)
    return (
        Loop("database", every_seconds=30, tick=watch.tick, scope=Scope.NODE),
        *(
            Loop(
                f"alerts by {name}",
                every_seconds=10,
                tick=Notifier(core, name, send, settings, digest).tick,
                scope=Scope.CLUSTER,
            )
            for name, send in channels_of(settings).items()
        ),
    )


async def send_test(settings: Settings, *, now_ms: int) -> list[tuple[ChannelName, bool, str]]:
    """Sends a test by each channel; returns whether each took it, and what it answered.

    Raises ConfigurationInvalid.
    """
    text = "Alerts come this way.\n"
    message = new_message("test", settings, "test", text, now_ms=now_ms)
    found: list[tuple[ChannelName, bool, str]] = []
    for name, send in channels_of(settings).items():
        try:
            found.append((name, True, await send(message, now_ms)))
        except NotDelivered as failure:
            found.append((name, False, str(failure)))
    return found
