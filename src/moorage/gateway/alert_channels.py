"""How an operator is told of alerts: messages, and the webhook and the mail that they go by.

Each channel has at most one message under way, which is sent until it is taken. What begins or ends
meanwhile is in the next one: so a flood is one message, and a restart loses and repeats none.
"""

import asyncio
import smtplib
import ssl
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from email.message import EmailMessage
from email.utils import formatdate
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import unquote, urlsplit

import msgspec
import structlog

from moorage import __version__
from moorage.clock import iso_utc
from moorage.core import Core
from moorage.errors import ConfigurationInvalid, InvalidField
from moorage.events.delivery import (
    PAUSES_MS,
    Destinations,
    NotDelivered,
    Sender,
    SystemResolver,
)
from moorage.events.signature import SECRET_PREFIX, signed_headers
from moorage.gateway.alerts import RULES
from moorage.loop import Loop, Scope
from moorage.money import json_of
from moorage.settings import Settings
from moorage.storage.operation import alerts
from moorage.storage.operation.alerts import Alert, AlertState, Channel, ChannelName
from moorage.whole_file import secret_text

log = structlog.get_logger()

_DETAILED = 20
_LISTED = 100
_DAY_MS = 86_400_000
_TOLD_LATE_MS = 3 * _DAY_MS  # what ended longer ago is told no more
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


def new_message(kind: str, subject: str, text: str, *, now_ms: int, **data: Any) -> Message:
    """Returns a message of a new id."""
    message_id = f"msg_{uuid.uuid4().hex}"
    return Message(
        id=message_id, type=f"gateway.{kind}", at_ms=now_ms, subject=subject, text=text, data=data
    )


def title_of(settings: Settings, gateway: str = "") -> str:
    """Returns what the operator knows the gateway by: its host, and its name of several."""
    host = urlsplit(settings.public_url).netloc or settings.listen
    return f"{host} ({gateway})" if gateway else host


def alerts_message(changed: Sequence[Alert], settings: Settings, *, now_ms: int) -> Message:
    """Returns the message on alerts that fire or have ended, one at least; the worst come first."""
    ordered = sorted(changed, key=lambda each: (each.state, _severity(each), each.began_ms))
    counts = Counter(each.state for each in ordered)
    rest = Counter(each.rule for each in ordered[_DETAILED:])
    blocks = [_block(each, settings) for each in ordered[:_DETAILED]]
    if rest:
        listed = ", ".join(f"{rule} × {count}" for rule, count in rest.most_common())
        blocks.append(f"And {rest.total()} more: {listed}. See `moorage operator alerts`.\n")
    first = ordered[0]
    state = ", ".join(f"{counts[each]} {each}" for each in AlertState if counts[each])
    return new_message(
        "alerts",
        f"[{title_of(settings)}] {state if len(ordered) > 1 else first.state}: {first.summary}",
        "\n".join(blocks),
        now_ms=now_ms,
        gateway=title_of(settings),
        alerts=[alert_document(each) for each in ordered[:_LISTED]],
        more=max(0, len(ordered) - _LISTED),
    )


def _severity(alert: Alert) -> str:
    rule = RULES.get(alert.rule)
    return "ticket" if rule is None else rule.severity


def alert_document(alert: Alert) -> dict[str, Any]:
    """Returns an alert as webhooks and commands tell it."""
    rule = RULES.get(alert.rule)
    return {
        "id": alert.id,
        "state": alert.state,
        "severity": _severity(alert),
        "rule": alert.rule,
        "gateway": alert.gateway,
        "labels": msgspec.json.decode(alert.labels),
        "summary": alert.summary,
        "means": rule.means if rule else "",
        "do": rule.do if rule else "",
        "see": f"docs/operate/{rule.see}" if rule and rule.see else "",
        "began": iso_utc(alert.began_ms),
        "ended": None if alert.ended_ms is None else iso_utc(alert.ended_ms),
    }


def _block(alert: Alert, settings: Settings) -> str:
    """Returns an alert as a person reads it."""
    told = alert_document(alert)
    lines = [
        f"{told['state'].upper()} ({told['severity']}): {alert.summary}",
        f"  gateway  {title_of(settings, alert.gateway)}",
        f"  since    {told['began']}",
        *([f"  until    {told['ended']}"] if told["ended"] else ()),
        *(f"  {word:<8} {told[word]}" for word in ("means", "do", "see") if told[word]),
        f"  rule     {alert.rule}",
    ]
    return "".join(f"{line}\n" for line in lines)


class AlertChannel(Protocol):
    """A way to the operator."""

    name: ChannelName

    async def send(self, message: Message, *, now_ms: int) -> str:
        """Sends a message; returns what was answered. Raises NotDelivered."""
        ...


_PRIVATE = (
    *("127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10"),
    *("::1/128", "fc00::/7"),
)
_TIMEOUT_SECONDS = 10.0


class WebhookChannel:
    """Posts to the operator's URL as wallets' webhooks are posted, and signed."""

    name = ChannelName.WEBHOOK

    def __init__(self, url: str, secret: str) -> None:
        """Raises InvalidField and ValueError."""
        self._url, self._secret = url, secret
        self._destinations = Destinations(allow=_PRIVATE)
        self._destinations.check_url(url)
        self._resolve = SystemResolver(at_once=1)
        self._headers(b"", message_id="", now_ms=0)

    def _headers(self, body: bytes, *, message_id: str, now_ms: int) -> dict[str, str]:
        signed = signed_headers(
            secret=self._secret,
            message_id=message_id,
            timestamp_seconds=now_ms // 1000,
            body=body,
        )
        return signed | {"Content-Type": "application/json", "User-Agent": f"Moorage/{__version__}"}

    async def send(self, message: Message, *, now_ms: int) -> str:
        """As the protocol's; it is signed with the time of this attempt."""
        body = json_of(message.document())
        sender = Sender(destinations=self._destinations, resolve=self._resolve)
        try:
            headers = self._headers(body, message_id=message.id, now_ms=now_ms)
            status = await sender.post(self._url, headers=headers, body=body)
        finally:
            await sender.close()
        if not 200 <= status < 300:
            raise NotDelivered(f"HTTP {status}")
        return f"HTTP {status}"


class MailChannel:
    """Hands mail to a server: over TLS, or to one on loopback."""

    name = ChannelName.MAIL

    def __init__(self, url: str, recipients: Sequence[str], *, password: str) -> None:
        """Raises ValueError."""
        parts = urlsplit(url)
        self._host, self._is_smtps = parts.hostname or "", parts.scheme == "smtps"
        self._is_local = _is_loopback(self._host)
        self._port = parts.port or (465 if self._is_smtps else 25 if self._is_local else 587)
        self._user, self._password = unquote(parts.username or ""), password
        self._recipients = tuple(recipients)
        self._sender = self._user if "@" in self._user else self._recipients[0]

    async def send(self, message: Message, *, now_ms: int) -> str:  # noqa: ARG002 (not in mail)
        """As the protocol's."""
        await asyncio.to_thread(self._send, self._mail(message))
        return f"{self._host}:{self._port} has taken it"

    def _mail(self, message: Message) -> EmailMessage:
        mail = EmailMessage()
        mail["From"], mail["To"] = self._sender, ", ".join(self._recipients)
        mail["Subject"] = message.subject
        mail["Date"] = formatdate(message.at_ms / 1000)
        mail["Message-ID"] = f"<{message.id}@{self._sender.rpartition('@')[2]}>"
        mail["Auto-Submitted"] = "auto-generated"  # RFC 3834: nobody's holiday answers it
        mail.set_content(message.text)
        return mail

    def _send(self, mail: EmailMessage) -> None:
        try:
            with self._connected() as server:
                if not self._is_smtps and not self._is_local:
                    server.starttls(context=ssl.create_default_context())
                if self._user:
                    server.login(self._user, self._password)
                refused = server.send_message(mail, self._sender, self._recipients)
        except (OSError, smtplib.SMTPException) as failure:
            raise NotDelivered(_why_not(failure)) from failure
        if refused:
            log.warning("alerts are not mailed to all", refused=list(refused))

    def _connected(self) -> smtplib.SMTP:
        at: Any = {"host": self._host, "port": self._port, "timeout": _TIMEOUT_SECONDS}
        if self._is_smtps:
            return smtplib.SMTP_SSL(**at, context=ssl.create_default_context())
        return smtplib.SMTP(**at)


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _why_not(failure: Exception) -> str:
    match failure:
        case smtplib.SMTPResponseException(smtp_code=code, smtp_error=said):
            text = said.decode(errors="replace") if isinstance(said, bytes) else said
            return f"the server answered {code} {text}"
        case smtplib.SMTPRecipientsRefused():
            return "the server takes mail for none of alert_mail_to"
        case ssl.SSLError():
            return f"the TLS handshake failed: {failure.reason or failure}"
        case TimeoutError():
            return f"no answer within {_TIMEOUT_SECONDS:g} s"
    return str(failure)


def channels_of(settings: Settings) -> tuple[AlertChannel, ...]:
    """Returns the channels that are set. Raises ConfigurationInvalid for what cannot work."""
    found = (*_webhook_of(settings), *_mail_of(settings))
    if settings.alert_digest and not found:
        raise ConfigurationInvalid("alert_digest: set alert_webhook, or alert_mail_to.")
    return found


def _webhook_of(settings: Settings) -> Iterable[AlertChannel]:
    option = "alert_webhook_secret_file"
    if not settings.alert_webhook:
        return
    if not settings.alert_webhook_secret_file:
        raise ConfigurationInvalid(
            f"{option}: name the file with the secret that signs what alert_webhook is sent; "
            f'`umask 077; echo "{SECRET_PREFIX}$(openssl rand -base64 32)" > FILE` makes one.'
        )
    secret = secret_text(Path(settings.alert_webhook_secret_file), option=option)
    try:
        if not secret.startswith(SECRET_PREFIX):
            raise ValueError(secret)
        yield WebhookChannel(settings.alert_webhook, secret)
    except InvalidField as problem:
        raise ConfigurationInvalid(f"alert_webhook: {problem.message}") from None
    except ValueError:
        raise ConfigurationInvalid(f"{option}: must hold {SECRET_PREFIX} and base64.") from None


def _mail_of(settings: Settings) -> Iterable[AlertChannel]:
    if bool(settings.alert_mail_to) != bool(settings.smtp_url):
        raise ConfigurationInvalid("alert_mail_to and smtp_url: one of them is of no use alone.")
    if not settings.smtp_url:
        return
    has_user = bool(urlsplit(settings.smtp_url).username)
    if has_user != bool(settings.smtp_password_file):
        raise ConfigurationInvalid("smtp_password_file: needed by a user in smtp_url, and only so.")
    password = ""
    if has_user:
        password = secret_text(Path(settings.smtp_password_file), option="smtp_password_file")
    try:
        yield MailChannel(settings.smtp_url, settings.alert_mail_to, password=password)
    except ValueError as problem:
        raise ConfigurationInvalid(f"smtp_url: {problem}.") from None


WriteDigest = Callable[[], Awaitable[Message]]


class Notifier:
    """Sends by one channel what it has not told yet."""

    def __init__(
        self, core: Core, channel: AlertChannel, settings: Settings, digest: WriteDigest | None
    ) -> None:
        self._core = core
        self._channel = channel
        self._settings = settings
        self._digest = digest

    async def tick(self) -> None:
        """Writes a message if there is none, and tries to deliver it if it is due.

        Raises DatabaseUnavailable.
        """
        name, now_ms = self._channel.name, self._core.clock.now_ms()
        found = (await alerts.channels(self._core.db)).get(name) or Channel(name=name)
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
        elif self._digest is not None and now_ms // _DAY_MS > channel.digest_ms // _DAY_MS:
            channel = _with(channel, await self._digest(), digest_ms=now_ms)
            await self._put(channel)
        return channel

    async def _deliver(self, channel: Channel, now_ms: int) -> None:
        """Tries once. What is not recorded as delivered is sent again, with the same id."""
        try:
            await self._channel.send(
                msgspec.json.decode(channel.message, type=Message), now_ms=now_ms
            )
        except NotDelivered as failure:
            attempts = channel.attempts + 1
            pause_ms = PAUSES_MS[min(attempts, _LONGEST_PAUSE) - 1] / self._core.speed
            log.warning("alerts are not delivered", channel=channel.name, error=str(failure))
            await self._put(
                msgspec.structs.replace(
                    channel,
                    attempts=attempts,
                    next_ms=now_ms + round(pause_ms),
                    error=str(failure),
                )
            )
        else:
            log.info("alerts delivered", channel=channel.name)
            await self._put(
                msgspec.structs.replace(channel, message="", error="", delivered_ms=now_ms)
            )

    async def _put(self, channel: Channel) -> None:
        async with self._core.db.transaction(durable=True) as tx:
            await alerts.put_channel(tx, channel)


def _with(channel: Channel, message: Message, **others: int) -> Channel:
    text = msgspec.json.encode(message).decode()
    return msgspec.structs.replace(channel, message=text, attempts=0, next_ms=0, **others)


def loops_of_channels(core: Core, settings: Settings, digest: WriteDigest) -> tuple[Loop, ...]:
    """Returns a loop for each channel, so that none waits for another.

    Raises ConfigurationInvalid.
    """
    return tuple(
        Loop(
            f"alerts by {channel.name}",
            every_seconds=10,
            tick=Notifier(core, channel, settings, digest if settings.alert_digest else None).tick,
            scope=Scope.CLUSTER,
        )
        for channel in channels_of(settings)
    )


async def send_test(settings: Settings, *, now_ms: int) -> list[tuple[ChannelName, bool, str]]:
    """Sends a test by each channel; returns whether each took it, and what it answered.

    Raises ConfigurationInvalid.
    """
    title = title_of(settings)
    subject, text = f"[{title}] test", f"Alerts of {title} come this way.\n"
    message = new_message("test", subject, text, now_ms=now_ms, gateway=title)
    found: list[tuple[ChannelName, bool, str]] = []
    for channel in channels_of(settings):
        try:
            found.append((channel.name, True, await channel.send(message, now_ms=now_ms)))
        except NotDelivered as failure:
            found.append((channel.name, False, str(failure)))
    return found
