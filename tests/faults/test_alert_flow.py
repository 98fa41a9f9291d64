"""A chain's node dies: the operator is told by both ways, once, and again when it is back."""

import base64
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from stage import Stage
from standardwebhooks import Webhook

from support.gateway.mail_server import MailServer, mail_server
from support.gateway.receiver import Receiver, receiving
from support.gateway.waiting import until

pytestmark = [pytest.mark.root, pytest.mark.long]

SECRET = "whsec_" + base64.b64encode(b"the secret that signs alerts....").decode()
NODE = "node 1 of arbitrum does not answer"


class AlertingStage(Stage):
    """One whose gateway tells its operator."""

    settings: dict[str, str]

    def variables(self) -> dict[str, str]:
        told = {f"MOORAGE_{name.upper()}": value for name, value in self.settings.items()}
        return super().variables() | told


def told_of(hook: Receiver, state: str) -> list[str]:
    """The ids of alerts of a state, of each message once; all are signed."""
    messages: dict[str, Any] = {
        headers["webhook-id"]: Webhook(SECRET).verify(body, headers) for headers, body in hook.got
    }
    told = [alert for each in messages.values() for alert in each["data"].get("alerts", [])]
    return [each["id"] for each in told if each["state"] == state]


def mailed(mail: MailServer, words: str) -> int:
    """How many blocks of mails begin with words."""
    texts = {each["Message-ID"]: str(each.get_content()) for each in mail.got}
    return sum(text.count(words) for text in texts.values())


async def test_dead_node_is_told_once_by_each_way_and_its_return_too(tmp_path: Path) -> None:
    key = tmp_path / "alerts.key"
    key.touch(mode=0o600)
    key.write_text(SECRET)
    stage = AlertingStage(tmp_path)
    with mail_server() as mail:
        async with receiving() as hook:
            stage.settings = {
                "alert_webhook": hook.url,
                "alert_webhook_secret_file": str(key),
                "alert_mail_to": "ops@example.com",
                "smtp_url": f"smtp://127.0.0.1:{mail.port}",
                "alert_digest": "true",
            }
            async with stage:

                async def dead(_: web.Request) -> web.StreamResponse:
                    return web.Response(status=503)

                stage.rpc.respond = dead
                firing = f"FIRING (ticket): {NODE}"
                await until(lambda: mailed(mail, firing) == 1 and NODE in str(hook.documents))
                stage.kill()
                await stage.run()
                stage.rpc.behave()
                over = f"RESOLVED (ticket): {NODE}"
                await until(lambda: mailed(mail, over) == 1 and over in str(hook.documents))
                await until(
                    lambda: sorted(told_of(hook, "firing")) == sorted(told_of(hook, "resolved"))
                )
                fired = told_of(hook, "firing")
                assert len(fired) == len(set(fired))
                assert mailed(mail, firing) == 1
                assert {each["To"] for each in mail.got} == {"ops@example.com"}
                reports = [each for each in mail.got if "payments held: 0" in str(each)]
                assert len(reports) == 1  # of the day
                given = {
                    name.removeprefix("MOORAGE_").lower(): value
                    for name, value in stage.variables().items()
                }
                code, listed = await stage.command("operator", "alerts", **given)
                assert (code, {each["id"] for each in listed["alerts"]}) == (0, set(fired))
                assert {each["error"] for each in listed["channels"]} == {""}
                assert await stage.audit() == []
