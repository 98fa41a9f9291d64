"""A fresh signature for what cannot be undone: the wallet says what exactly is to be done."""

import hashlib
import hmac
import re
import secrets
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import structlog
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from moorage.address import checksum_address
from moorage.api.discovery.guide import Facts
from moorage.api.http.problems import problem_of
from moorage.auth.authenticator import NONCE_OF_PAGES, Authenticator, SignIn
from moorage.clock import Clock, iso_utc
from moorage.errors import (
    BodyTooLarge,
    MoorageError,
    NonceReused,
    SignatureInvalid,
    TimestampExpired,
)
from moorage.pages.rendering.templates import SECURITY_HEADERS, page
from moorage.pages.sessions.form import (
    FAILED,
    TOKEN,
    Answer,
    Count,
    Form,
    intended_form,
    own_form,
    read_form,
    require_own_page,
    with_error_pages,
)
from moorage.pages.sessions.session import AuthGuard, Session
from moorage.signing import host_of

MAX_AGE_MS = 5 * 60_000
"""How old a text may be when its signature arrives."""

_AHEAD_MS = 60_000  # clocks of several gateways may differ
_RANDOM_CHARS = 16
_MAC_AT = len(NONCE_OF_PAGES) + _RANDOM_CHARS
_MAX_SIGNATURE_CHARS = 16 * 1024 + 2
_CHAIN = re.compile(r"[1-9][0-9]{0,15}")
_UNPRINTED = re.compile(r"[^\x20-\x7e]")


class Challenge(NamedTuple):
    """A text for a wallet to sign, and what comes back with the signature."""

    text: str
    nonce: str
    issued_at: str


class Signed(NamedTuple):
    """A text that a wallet has signed."""

    wallet: str
    nonce: str
    issued_ms: int


@dataclass(frozen=True, kw_only=True)
class Signing:
    """Issues texts, and checks their signatures. A text names the `url` of the site it is for."""

    secret: bytes
    authenticator: Authenticator
    client: Callable[[Request], str]  # whom a question to a chain counts for
    clock: Clock

    def challenge(self, form: Form, statement: str, *, url: str) -> Challenge:
        """Returns a new text for the wallet and chain that the form names.

        Raises SignatureInvalid for what is no address, or no chain's number.
        """
        issued_ms = self.clock.now_ms()
        begins = NONCE_OF_PAGES + secrets.token_hex(_RANDOM_CHARS // 2)
        nonce = begins + self._mac(begins, issued_ms)
        signed = _text(form, statement, url=url, nonce=nonce, issued_ms=issued_ms)
        return Challenge(signed.text.decode(), nonce, str(issued_ms))

    async def check(self, request: Request, form: Form, statement: str, *, url: str) -> Signed:
        """Returns the signed text that a form carries.

        Raises TimestampExpired for an old one, SignatureInvalid for one that was not issued here,
        says something else or was not signed by its wallet; also what `has_signed_text` raises.
        """
        nonce, issued_at = form.get("nonce", ""), form.get("issued_at", "")
        issued_ms = int(issued_at) if re.fullmatch(r"[0-9]{1,15}", issued_at) else 0
        expected = self._mac(nonce[:_MAC_AT], issued_ms)
        if not hmac.compare_digest(nonce[_MAC_AT:].encode(), expected.encode()):
            raise SignatureInvalid("This text to sign is not of this gateway. Begin again.")
        if not -_AHEAD_MS <= self.clock.now_ms() - issued_ms <= MAX_AGE_MS:
            raise TimestampExpired("The text was signed too late. Begin again, and sign it soon.")
        signed = _text(form, statement, url=url, nonce=nonce, issued_ms=issued_ms)
        client = partial(self.client, request)
        if not await self.authenticator.has_signed_text(signed, client=client):
            raise SignatureInvalid("The signature is not this wallet's, or of another text.")
        return Signed(signed.wallet, nonce, issued_ms)

    def _mac(self, begins: str, issued_ms: int) -> str:
        message = f"moorage: a text to sign: {begins}:{issued_ms}".encode()
        return hmac.new(self.secret, message, hashlib.sha256).hexdigest()[:32]


def _text(form: Form, statement: str, *, url: str, nonce: str, issued_ms: int) -> SignIn:
    try:
        address = checksum_address(form.get("address", ""))
    except ValueError:
        raise SignatureInvalid("The wallet told no address.") from None
    chain, signature = form.get("chain", ""), form.get("signature", "")
    if _CHAIN.fullmatch(chain) is None or len(signature) > _MAX_SIGNATURE_CHARS:
        raise SignatureInvalid("The wallet told no chain, or no signature.")
    return SignIn(
        domain=host_of(url),
        address=address,
        uri=f"{url}/",
        version="1",
        chain_id=f"eip155:{chain}",
        type="eip191",
        nonce=nonce,
        issued_at=iso_utc(issued_ms),
        signature=signature,
        statement=_UNPRINTED.sub("?", statement),
    )


log = structlog.get_logger()

_MAX_BYTES = 32 * 1024
"""Of a form that signs in: a contract wallet's signature takes the most."""


@dataclass(frozen=True, kw_only=True)
class LoginSite:
    """Where the login pages of a site are, and who may sign in."""

    home: str  # the site's first page
    base: str  # what their paths begin with
    statement: str  # what is signed to sign in
    wallets: frozenset[str] | None  # those that may sign in; None: any


@dataclass(frozen=True, kw_only=True)
class LoginPages:
    """The pages of one site that need no session: to sign in, and to open links."""

    guard: AuthGuard
    site: LoginSite
    count: Count
    signing: Signing
    facts: Facts

    @property
    def routes(self) -> tuple[Route, ...]:
        """Their routes."""
        base = self.site.base
        link, sign_in = f"{base}/links/{{secret}}", f"{base}/sign-in"
        return (
            Route(sign_in, self._with_error_pages(self._show_sign_in), methods=["GET"]),
            Route(sign_in, self._with_error_pages(self._sign_in), methods=["POST"]),
            Route(f"{sign_in}/text", self._challenge, methods=["POST"]),
            Route(link, self._with_error_pages(self._show_link), methods=["GET"]),
            Route(link, self._with_error_pages(self._open_link), methods=["POST"]),
            Route(f"{base}/sign-out", self._with_error_pages(self._sign_out), methods=["POST"]),
        )

    async def _show_sign_in(self, request: Request) -> Response:
        if await self.guard.session(request) is not None:
            return RedirectResponse(self.site.home, 303)
        return self._page("sessions/sign_in.html", error="")

    async def _challenge(self, request: Request) -> Response:
        """Gives the script a text for the wallet to sign: to sign in, or what a page names."""
        try:
            await self.count(request)
            require_own_page(request, self.guard.hosts)
            form = await read_form(request, max_bytes=_MAX_BYTES)
            statement = form.get("statement") or self.site.statement
            url = self.guard.url_of(request)
            body, status = self.signing.challenge(form, statement, url=url)._asdict(), 200
        except MoorageError as error:
            body, status = {"error": error.message}, problem_of(error).status
        except ClientDisconnect:
            return Response(status_code=400)  # nobody is there to read it
        except Exception:
            log.exception("page failed")
            body, status = {"error": FAILED}, 500
        return JSONResponse(body, status, {**SECURITY_HEADERS, "Cache-Control": "no-store"})

    async def _sign_in(self, request: Request) -> Response:
        site = self.site
        require_own_page(request, self.guard.hosts)
        form = await read_form(request, max_bytes=_MAX_BYTES)
        try:
            url = self.guard.url_of(request)
            signed = await self.signing.check(request, form, site.statement, url=url)
            if site.wallets is not None and signed.wallet not in site.wallets:
                raise SignatureInvalid("This wallet is not one of the operators'.")
            opened = await self.guard.sessions.sign_in(
                signed.wallet, role=self.guard.role, nonce=signed.nonce, issued_ms=signed.issued_ms
            )
        except MoorageError as error:
            status = problem_of(error).status
            return self._page("sessions/sign_in.html", status=status, error=error.message)
        return await self.guard.enter(request, RedirectResponse(site.home, 303), opened.secret)

    async def _show_link(self, request: Request) -> Response:
        """A look uses up nothing: programs that preview links look as well."""
        sessions = self.guard.sessions
        link = await sessions.look_at_link(request.path_params["secret"], role=self.guard.role)
        return self._gone() if link is None else self._page("sessions/link.html", link=link)

    async def _open_link(self, request: Request) -> Response:
        require_own_page(request, self.guard.hosts)
        secret, site = request.path_params["secret"], self.site
        opened = await self.guard.sessions.open_link(secret, role=self.guard.role)
        if opened is None:
            return self._gone()
        project = opened.session.project_id
        home = site.home if project is None else f"{site.home}/projects/{project}"
        return await self.guard.enter(request, RedirectResponse(home, 303), opened.secret)

    async def _sign_out(self, request: Request) -> Response:
        session = await self.guard.session(request)
        if session is not None:
            form = await intended_form(request, csrf=session.csrf, hosts=self.guard.hosts)
            if form.get("all") and session.may_change:
                await self.guard.sessions.end_all(session.id)
        return await self.guard.leave(request, RedirectResponse(f"{self.site.base}/sign-in", 303))

    def _with_error_pages(self, handler: Answer) -> Answer:
        """Returns the handler behind the limit of its client's address; it tells its errors."""

        async def counted(request: Request) -> Response:
            await self.count(request)
            return await handler(request)

        return with_error_pages(counted, home=self.site.home)

    def _gone(self) -> Response:
        return self._page("sessions/link_gone.html", status=404)

    def _page(self, template: str, *, status: int = 200, **context: Any) -> Response:
        site, role = self.site, self.guard.role
        shown = {"facts": self.facts, "site": site, "home": site.home, "role": role, **context}
        return page(template, status=status, **shown)


def wallet_login(
    guard: AuthGuard, *, count: Count, signing: Signing, facts: Facts
) -> tuple[Route, ...]:
    """Returns how to sign in to wallets' pages: any wallet may, as it may call the API."""
    site = LoginSite(
        home="/wallet",
        base="",
        statement="Sign in to look after your apps. This costs nothing and moves no money.",
        wallets=None,
    )
    return LoginPages(guard=guard, site=site, count=count, signing=signing, facts=facts).routes


def operator_login(
    guard: AuthGuard, *, count: Count, signing: Signing, facts: Facts, wallets: frozenset[str]
) -> tuple[Route, ...]:
    """Returns how to sign in to operators' pages: `wallets` may, others need a link."""
    site = LoginSite(
        home="/operator",
        base="/operator",
        statement="Sign in as an operator of this gateway. This costs nothing.",
        wallets=wallets,
    )
    return LoginPages(guard=guard, site=site, count=count, signing=signing, facts=facts).routes


SIGNATURE_FIELDS = ("address", "chain", "nonce", "issued_at", "signature", "statement")
"""The fields of a form that carry a signed text."""


class Unconfirmed(Exception):
    """The wallet has not signed `statement` yet; `sentence` asks an agent to do the same."""

    def __init__(self, statement: str, *, sentence: str, error: str) -> None:
        super().__init__(statement)
        self.statement, self.sentence, self.error = statement, sentence, error


@dataclass(frozen=True, kw_only=True)
class Confirmations:
    """Checks that a form carries its session's wallet's signature of what it would do."""

    guard: AuthGuard
    signing: Signing

    async def require(
        self, request: Request, session: Session, form: Form, statement: str, *, sentence: str
    ) -> None:
        """Raises Unconfirmed unless the wallet signed the statement within five minutes.

        Whatever kind of session it is, a link's as well. A signature counts once.
        """
        error = ""
        if form.get("signature"):
            try:
                url = self.guard.url_of(request)
                signed = await self.signing.check(request, form, statement, url=url)
                if signed.wallet != session.who:
                    raise SignatureInvalid(f"Another wallet has signed this: {signed.wallet}.")
                sessions = self.guard.sessions
                if not await sessions.note_signature(session.id, issued_ms=signed.issued_ms):
                    raise NonceReused("This signature was used before. Sign again.")
            except MoorageError as refused:
                error = refused.message
            else:
                return
        raise Unconfirmed(statement, sentence=sentence, error=error)


_NOT_TYPED = frozenset(
    {TOKEN, *SIGNATURE_FIELDS, "a_month", "confirmed", "earlier", "id", "kind", "without_export"}
)

_MAX_TEXTS = 50  # no form has as many

_TOO_LARGE = (
    "You were signed out, and nothing was changed. What you typed is too much to be shown here: go "
    "back in this browser to find it, sign in again in another tab, and send it once more."
)


def is_part(request: Request) -> bool:
    """Returns whether a script asks for a part of a page, which nobody sees as a page."""
    return "hx-request" in request.headers


def typed(form: Form) -> list[tuple[str, str]]:
    """Returns the texts of a form, each with a label; without what a page itself put there."""
    return [
        (name.replace("_", " ").capitalize(), text)
        for name, text in form.items()
        if text.strip() and name not in _NOT_TYPED
    ]


async def signed_out(
    request: Request, *, hosts: Collection[str], sign_in: str, count: Count
) -> Response:
    """Answers a form whose session has ended: with what was typed, if anything was.

    Only what a page of ours sent is shown. A stranger can pretend that, so the number of fields is
    limited, and the request counts. Raises RateLimited.
    """
    await count(request)
    try:
        texts = typed(await own_form(request, hosts=hosts))
    except BodyTooLarge:
        return page("error.html", status=413, message=_TOO_LARGE, home=sign_in)
    except MoorageError:
        texts = []
    if not 0 < len(texts) <= _MAX_TEXTS:
        return RedirectResponse(sign_in, 303)
    return page("sessions/signed_out.html", status=401, typed=texts, sign_in=sign_in)
