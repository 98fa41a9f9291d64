"""Answers visitors where no app does: a page for browsers, JSON for other clients.

The proxy sends requests here if their host has no app, or the app does not answer. Every response
has `X-Moorage-Fallback`, which the proxy removes from responses of apps.
"""

import asyncio
import base64
import contextlib
import hashlib
import html
import os
import socket
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from enum import StrEnum
from importlib.resources import files
from pathlib import Path
from string import Template

import msgspec
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Mount
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocketClose

from moorage.errors import MoorageError
from moorage.routing.haproxy_config import FALLBACK_HEADER, host_of_header, is_host
from moorage.routing.waking import Visitor

MAX_BODY_BYTES = 128 * 1024 * 1024
MAX_BODY_SECONDS = 30.0
MAX_BODIES = 500
MAX_BODIES_PER_VISITOR = 32


class DroppedBodies:
    """Discards request bodies; counts how many it is reading, in all and per visitor."""

    def __init__(self, visitor: Visitor) -> None:
        self._visitor = visitor
        self._of_visitor: Counter[str | None] = Counter()

    async def drop(self, request: Request) -> None:
        """Reads and discards the request's body, within the limits. Raises ClientDisconnect."""
        visitor = self._visitor(request.headers.get("x-real-ip", ""))
        if self._of_visitor.total() >= MAX_BODIES:
            return
        if visitor is not None and self._of_visitor[visitor] >= MAX_BODIES_PER_VISITOR:
            return
        self._of_visitor[visitor] += 1
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(MAX_BODY_SECONDS):
                    await _read(request)
        finally:
            self._of_visitor[visitor] -= 1
            if not self._of_visitor[visitor]:
                del self._of_visitor[visitor]


async def _read(request: Request) -> None:
    dropped = 0
    async for chunk in request.stream():
        dropped += len(chunk)
        if dropped > MAX_BODY_BYTES:
            return


def listen_unix(path: Path) -> socket.socket:
    """Returns a listening, non-blocking unix socket at `path`, for this user; replaces an old one.

    It is bound through its open directory (`/proc/self/fd/N/name`), as a path of more than 107
    bytes, common below a data directory, does not fit into `sun_path` (unix(7)). That path is gone
    afterwards: serve at it by `create_server` or `start_server`, which never look at it.
    """
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
        listener.bind(f"/proc/self/fd/{directory}/{path.name}")
        path.chmod(0o600)
        listener.listen(1024)
        listener.setblocking(False)
    except OSError:
        listener.close()
        raise
    finally:
        os.close(directory)
    return listener


class HostState(StrEnum):
    """Why no app answers at a host."""

    UNKNOWN = "unknown"  # no project has this name
    DEPLOYING = "deploying"  # its first deployment is under way
    FAILED = "failed"  # no deployment has succeeded yet, and the last one failed
    SUSPENDED = "suspended"  # out of credits
    AT_LIMIT = "at_limit"  # suspended: its limit of the month is reached
    BLOCKED = "blocked"  # suspended by the operator
    PAUSED = "paused"  # suspended by its owner
    NO_SPACE = "no_space"  # stopped because the gateway's disk was nearly full
    STOPPED = "stopped"  # should run but does not; it is being restarted
    CRASH_LOOPING = "crash_looping"  # crashed repeatedly; it is restarted after growing pauses
    MOVING = "moving"  # stopped while its volume goes to another machine
    UNHEALTHY = "unhealthy"  # runs, but does not answer
    ASLEEP = "asleep"  # stopped while idle, and too many requests already wait for it
    NO_ROOM = "no_room"  # stopped while idle, and the machine has no memory for it now


@dataclass(frozen=True)
class Absence:
    """Why no app answers at a host, and when to try again, if not after the page's usual time."""

    state: HostState
    retry_after_seconds: int | None = None


Lookup = Callable[[str], Awaitable[Absence]]
"""Returns why no app answers at a host name (lower case, without port)."""


@dataclass(frozen=True, kw_only=True)
class Page:
    """One answer, for people and for programs; `hint` and `next_actions` may contain $gateway."""

    status: int
    code: str
    title: str
    text: str
    hint: str = ""
    next_actions: tuple[str, ...] = ()
    retry_after_seconds: int | None = None


_TOP_UP = (
    "Top up with POST $gateway/agent/credits (with its manage_token, if a payment alone opened the "
    "project); the app then starts by itself"
)
PAGES = {
    HostState.UNKNOWN: Page(
        status=404,
        code="app_not_found",
        title="No app is hosted here",
        text="Nothing is deployed under this address.",
        hint="Check the spelling, or deploy an app of this name with $gateway.",
    ),
    HostState.DEPLOYING: Page(
        status=503,
        code="app_deploying",
        title="Arriving shortly",
        text="This app is being built and started.",
        hint="This page reloads by itself.",
        retry_after_seconds=2,
    ),
    HostState.FAILED: Page(
        status=502,
        code="app_failed",
        title="The deployment did not succeed",
        text="This app has no version that runs.",
        hint="Its deployer finds the reason in the deployment's status and logs.",
        next_actions=("Read the reason with GET $gateway/agent/deploy/{projectId}/{id}/status",),
    ),
    HostState.SUSPENDED: Page(
        status=402,
        code="app_suspended",
        title="Out of credits",
        text="This app is stopped because its credits are used up. Its files and data are kept.",
        hint="Its deployer starts it again by topping up at $gateway, before it is deleted.",
        next_actions=(_TOP_UP,),
    ),
    HostState.AT_LIMIT: Page(
        status=503,  # a payment would not help
        code="app_at_limit",
        title="Limit of the month reached",
        text="This app has burned what its owner lets it in a month. Its files and data are kept.",
        hint="It starts again in the next month, or when its owner raises the limit at $gateway.",
    ),
    HostState.BLOCKED: Page(
        status=403,
        code="app_blocked",
        title="This app is suspended",
        text="The operator of this gateway has suspended the app at this address.",
        hint="Its deployer finds the reason in the deployment's status.",
    ),
    HostState.PAUSED: Page(
        status=503,
        code="app_paused",
        title="This app is paused",
        text="Its owner has paused the app at this address. Its files and data are kept.",
        hint="Its owner can resume it at any time.",
    ),
    HostState.NO_SPACE: Page(
        status=503,
        code="app_without_space",
        title="No room on the disk",
        text="This app was ended because the gateway's disk is nearly full. Its data are kept.",
        hint="It starts again by itself when there is room.",
        retry_after_seconds=60,
    ),
    HostState.STOPPED: Page(
        status=502,
        code="app_stopped",
        title="The app is not answering",
        text="This app has stopped and is being started again. Please try again in a moment.",
        retry_after_seconds=3,
    ),
    HostState.CRASH_LOOPING: Page(
        status=502,
        code="app_crash_looping",
        title="The app is not answering",
        text="This app has ended again and again, and is now started ever less often.",
        hint="Its deployer finds the reason in the deployment's status and log.",
        retry_after_seconds=3,
    ),
    HostState.ASLEEP: Page(
        status=503,
        code="app_waking",
        title="Waking up",
        text="This app was idle and is being started. Please try again in a moment.",
        retry_after_seconds=2,
    ),
    HostState.NO_ROOM: Page(
        status=503,
        code="app_no_room",
        title="Waiting for room",
        text="This app was idle, and the machine has no memory left to start it just now.",
        hint="It is tried again with each visit; this page reloads by itself.",
        retry_after_seconds=10,
    ),
    HostState.MOVING: Page(
        status=503,
        code="app_moving",
        title="Moving",
        text="This app is taken to another machine with all it has stored. It is back in a moment.",
        hint="This page reloads by itself.",
        retry_after_seconds=5,
    ),
    HostState.UNHEALTHY: Page(
        status=502,
        code="app_not_answering",
        title="The app is not answering",
        text="This app runs but did not answer the request. Please try again in a moment.",
        retry_after_seconds=3,
    ),
}

_STATE_NOT_KNOWN = Page(
    status=503,
    code="state_unavailable",
    title="Back in a moment",
    text="The gateway cannot look up this app right now. Please try again in a few seconds.",
    retry_after_seconds=5,
)

_APEX = Page(
    status=200,
    code="gateway",
    title="This is a Moorage gateway",
    text="An agent pays, and its app is live here, at an address of its own.",
    hint="The API, described by its /openapi.json, is at $gateway.",
    next_actions=("Read $gateway/openapi.json",),
)


def fallback_app(
    lookup: Lookup, *, base_domain: str, gateway_url: str, visitor: Visitor
) -> Starlette:
    """Returns the app for the proxy's fallback socket; `gateway_url` is the API's public URL."""
    pages = _Pages(
        lookup, DroppedBodies(visitor), base_domain=base_domain, gateway_url=gateway_url.rstrip("/")
    )
    return Starlette(routes=[Mount("/", app=pages)])


def render(page: Page, *, host: str, gateway_url: str, browser: bool) -> Response:
    """Returns `page` as HTML or JSON. Of the request it contains only `host`, escaped."""
    headers = {
        "Cache-Control": "no-store",
        "Vary": "Accept",
        "X-Content-Type-Options": "nosniff",
        FALLBACK_HEADER: page.code,
    }
    if page.retry_after_seconds is not None:
        headers["Retry-After"] = str(page.retry_after_seconds)
    if not browser:
        content = _json(page, gateway_url=gateway_url)
        return Response(content, page.status, headers, media_type="application/json")
    headers["Content-Security-Policy"] = _CONTENT_POLICY
    text = _html(page, host=host, gateway_url=gateway_url)
    return Response(text, page.status, headers, media_type="text/html")


class _Pages:
    """The ASGI application: any path, any method."""

    def __init__(
        self, lookup: Lookup, bodies: DroppedBodies, *, base_domain: str, gateway_url: str
    ) -> None:
        self._lookup = lookup
        self._bodies = bodies
        self._base_domain = base_domain
        self._gateway_url = gateway_url

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await WebSocketClose()(scope, receive, send)
            return
        request = Request(scope, receive)
        host = host_of_header(request.headers.get("host", "")).lower()
        page = await self._page(host)
        response = render(
            page,
            host=host,
            gateway_url=self._gateway_url,
            browser="text/html" in request.headers.get("accept", ""),
        )
        try:
            await self._bodies.drop(request)
        except ClientDisconnect:
            return
        await response(scope, receive, send)

    async def _page(self, host: str) -> Page:
        if host == self._base_domain:
            return _APEX
        if not is_host(host):
            return PAGES[HostState.UNKNOWN]
        try:
            absence = await self._lookup(host)
        except MoorageError:
            return _STATE_NOT_KNOWN
        page = PAGES[absence.state]
        if absence.retry_after_seconds is None:
            return page
        return replace(page, retry_after_seconds=absence.retry_after_seconds)


def _json(page: Page, *, gateway_url: str) -> bytes:
    actions = [_named(action, gateway_url) for action in page.next_actions]
    if page.status < 400:
        return msgspec.json.encode({"message": page.text, "next_actions": actions})
    body: dict[str, object] = {
        "error": f"{page.title}. {page.text}",
        "code": page.code,
        "retryable": page.retry_after_seconds is not None,
    }
    if actions:
        body["next_actions"] = actions
    return msgspec.json.encode(body)


def _html(page: Page, *, host: str, gateway_url: str) -> str:
    url = html.escape(gateway_url)
    hint = _named(html.escape(page.hint), f'<a href="{url}">{url}</a>')
    seconds = page.retry_after_seconds
    return _TEMPLATE.substitute(
        title=html.escape(page.title),
        text=html.escape(page.text),
        host=html.escape(host),
        hint=f'<p class="hint">{hint}</p>' if hint else "",
        mood="alert" if page.status >= 400 and seconds is None else "calm",
        refresh=f'<meta http-equiv="refresh" content="{seconds}">' if seconds else "",
        style=_STYLE,
    )


def _named(text: str, gateway: str) -> str:
    return text.replace("$gateway", gateway)


def _resource(name: str) -> str:
    return files(__package__).joinpath(name).read_text()


_TEMPLATE = Template(_resource("page.html"))
_STYLE = _resource("page.css")
_STYLE_DIGEST = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
_CONTENT_POLICY = (
    f"default-src 'none'; style-src 'sha256-{_STYLE_DIGEST}'; base-uri 'none'; form-action 'none'"
)
