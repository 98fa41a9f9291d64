"""Orders certificates by ACME (RFC 8555). The library blocks: each step is a thread's."""

import asyncio
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import KW_ONLY, dataclass
from datetime import datetime, timedelta
from typing import NamedTuple, TypeVar
from urllib.parse import urlsplit

import requests
from acme import challenges, client, crypto_util, errors, messages
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from josepy.errors import Error as JoseError
from josepy.jwa import ES256
from josepy.jwk import JWKEC

from moorage import __version__
from moorage.certificates.authority import Account, Accounts, Fault, OrderFailed, Proof, Proofs
from moorage.certificates.pem import new_key

T = TypeVar("T")

ANSWER_SECONDS = 10  # between two bytes of an answer
STEP_SECONDS = 30.0
VALIDATION_SECONDS = 90.0
_ISSUING_SECONDS = 60.0
_MAX_PAUSE_SECONDS = 10.0  # between two requests for an order

_OF_NAME = frozenset(
    (*("caa", "connection", "dns", "incorrectResponse", "rejectedIdentifier", "tls"),
     *("unauthorized", "unsupportedIdentifier", "userActionRequired"))
)  # fmt: skip
"""Errors of a validation that another authority would most likely find, too (RFC 8555, 6.7)."""

_OF_ORDER = _OF_NAME - {"unauthorized", "connection", "userActionRequired"}
"""Those of an answer: there, the others are about the account."""

_BROKEN = (
    errors.Error,
    JoseError,
    requests.RequestException,
    ValueError,
    KeyError,
    AttributeError,
    TypeError,
)
"""What the library raises for answers that are none."""


class Binding(NamedTuple):
    """An account that an authority knows from elsewhere (RFC 8555, 7.3.4)."""

    kid: str
    hmac_key: str


@dataclass(eq=False)
class AcmeAuthority:
    """An authority elsewhere."""

    is_limited = True

    directory: str
    _: KW_ONLY
    accounts: Accounts
    root_file: str = ""  # what a private authority is trusted by; "" is the system's
    binding: Binding | None = None

    async def certify(self, name: str, key: str, proofs: Proofs) -> str:
        """As `Authority.certify`. An order that is left half done ends by itself at the authority.

        At the next try it is resumed there, if the authority does that.
        """
        known = await self.accounts.of(self.directory)
        with self._session(known.key if known else new_key()) as session:
            made = await session.step(session.connect)
            if known is None:
                known = await self._register(session)
            session.network.account = messages.RegistrationResource(
                uri=known.account, body=messages.Registration()
            )
            try:
                csr = crypto_util.make_csr(key.encode(), [name])
                order = await session.step(made.new_order, csr)
                for authorization in order.authorizations:
                    if authorization.body.status != messages.STATUS_VALID:
                        await self._prove(session, made, authorization, proofs)
                return await session.step(
                    _finished, made, order, seconds=_ISSUING_SECONDS + STEP_SECONDS
                )
            except OrderFailed:
                if session.account_is_unknown:
                    await self.accounts.forget(self.directory)
                raise

    @contextmanager
    def _session(self, account_key: str) -> Iterator["_Session"]:
        session = _Session(self.directory, account_key, root_file=self.root_file)
        try:
            yield session
        finally:
            session.network.session.close()

    async def _register(self, session: "_Session") -> Account:
        binding, bound = self.binding, None
        if binding is not None:
            bound = messages.ExternalAccountBinding.from_data(
                account_public_key=session.jwk.public_key(),
                kid=binding.kid,
                hmac_key=binding.hmac_key,
                directory=session.client.directory,
            )
        account = messages.NewRegistration.from_data(
            terms_of_service_agreed=True, external_account_binding=bound
        )

        def register() -> str:
            try:
                return str(session.client.new_account(account).uri)
            except errors.ConflictError as known:
                return str(known.location)

        url = await session.step(register)
        kept = await self.accounts.store(self.directory, Account(session.key_text, url))
        session.use(kept.key)
        return kept

    async def _prove(
        self,
        session: "_Session",
        acme: client.ClientV2,
        authorization: messages.AuthorizationResource,
        proofs: Proofs,
    ) -> None:
        body = authorization.body
        kind = challenges.DNS01 if body.wildcard else challenges.HTTP01
        offered = [each for each in body.challenges or () if isinstance(each.chall, kind)]
        if not offered:
            raise OrderFailed(Fault.NAME, f"{self._host} does not offer {kind.typ} for it.")
        response, value = offered[0].response_and_validation(session.jwk)
        token = "" if body.wildcard else offered[0].chall.encode("token")
        async with proofs.placed(Proof(body.identifier.value, token, value)):
            await session.step(acme.answer_challenge, offered[0], response)
            session.refusal = None
            try:
                async with asyncio.timeout(VALIDATION_SECONDS):
                    await self._validated(session, acme, authorization)
            except TimeoutError:
                if session.refusal is not None:  # it has asked, and would ask again
                    raise session.failure(session.refusal, of_name=_OF_NAME) from None
                reason = f"{self._host} has not asked for it within {VALIDATION_SECONDS:.0f} s."
                raise OrderFailed(Fault.AUTHORITY, reason) from None

    async def _validated(
        self,
        session: "_Session",
        acme: client.ClientV2,
        authorization: messages.AuthorizationResource,
    ) -> None:
        """Waits until the authority has asked. Raises OrderFailed."""
        while True:
            session.retry_after_seconds = 1.0
            checked, _ = await session.step(acme.poll, authorization)
            if checked.body.status == messages.STATUS_VALID:
                return
            found = [each.error for each in checked.body.challenges or () if each.error]
            session.refusal = next(iter(found), None)
            if checked.body.status not in (messages.STATUS_PENDING, messages.STATUS_PROCESSING):
                if session.refusal is None:
                    raise OrderFailed(Fault.AUTHORITY, f"{self._host} refused it and said no more.")
                raise session.failure(session.refusal, of_name=_OF_NAME)
            await asyncio.sleep(min(session.retry_after_seconds, _MAX_PAUSE_SECONDS))

    @property
    def _host(self) -> str:
        return urlsplit(self.directory).hostname or self.directory


class _Session:
    """The requests of one order, signed with the account's key."""

    def __init__(self, directory: str, account_key: str, *, root_file: str) -> None:
        self._directory = directory
        self.retry_after_seconds = 0.0  # what the last answer asked for
        self.account_is_unknown = False
        self.refusal: messages.Error | None = None  # what the authority found last at a name
        self.network = client.ClientNetwork(
            alg=ES256, user_agent=f"moorage/{__version__}", timeout=ANSWER_SECONDS
        )
        self.use(account_key)
        trust = root_file or ssl.get_default_verify_paths().cafile
        if trust:
            self.network.verify_ssl = trust  # type: ignore[assignment]  # it is handed to requests
        self.network.session.trust_env = False
        self.network.session.hooks["response"].append(self._note)

    def use(self, account_key: str) -> None:
        """Signs with this key from now on."""
        private = serialization.load_pem_private_key(account_key.encode(), password=None)
        assert isinstance(private, ec.EllipticCurvePrivateKey)  # noqa: S101 (we made it)
        self.key_text = account_key
        self.network.key = self.jwk = JWKEC(key=private)

    def connect(self) -> client.ClientV2:
        """Asks for the directory. Blocks."""
        found = client.ClientV2.get_directory(self._directory, self.network)
        self.client = client.ClientV2(found, self.network)
        return self.client

    def _note(self, response: requests.Response, *_: object, **__: object) -> None:
        text = response.headers.get("Retry-After", "")
        if text.isdecimal():
            self.retry_after_seconds = float(text)

    async def step(self, work: Callable[..., T], *given: object, seconds: float = 0.0) -> T:
        """Does one step; after `seconds`, 30 by default, it is left alone. Raises OrderFailed."""
        try:
            async with asyncio.timeout(seconds or STEP_SECONDS):
                return await _in_own_thread(work, *given)
        except TimeoutError:
            host = urlsplit(self._directory).hostname
            raise OrderFailed(Fault.AUTHORITY, f"{host} does not answer.") from None
        except errors.IssuanceError as error:
            raise self.failure(error.error, of_name=_OF_NAME) from error
        except _BROKEN as error:
            raise self.failure(error, of_name=_OF_ORDER) from error

    def failure(self, error: Exception, *, of_name: frozenset[str]) -> OrderFailed:
        """Returns what an error means."""
        host = urlsplit(self._directory).hostname
        if not isinstance(error, messages.Error):
            detail = str(error) or type(error).__name__
            return OrderFailed(Fault.AUTHORITY, f"{host} cannot be asked: {detail[:300]}.")
        detail = f"{host} says: {(error.detail or error.typ)[:500]}"
        if error.code == "rateLimited":
            pause = self.retry_after_seconds
            return OrderFailed(Fault.LIMIT, detail, retry_after_seconds=pause)
        self.account_is_unknown = error.code == "accountDoesNotExist"
        return OrderFailed(Fault.NAME if error.code in of_name else Fault.AUTHORITY, detail)


def _finished(acme: client.ClientV2, order: messages.OrderResource) -> str:
    """Has the certificate signed and returns its chain. Blocks, for a minute and a bit at most."""
    until = datetime.now() + timedelta(seconds=_ISSUING_SECONDS)  # noqa: DTZ005 (as the library)
    return str(acme.finalize_order(order, until).fullchain_pem)


async def _in_own_thread(work: Callable[..., T], *given: object) -> T:
    """Runs `work` in a thread of its own, which may outlive its caller, and the event loop."""
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: Exception | None) -> None:
        if ended.done():  # nobody waits any more
            return
        if error is not None:
            ended.set_exception(error)
        else:
            ended.set_result(result)  # type: ignore[arg-type]

    def run() -> None:
        result, error = None, None
        try:
            result = work(*given)
        except Exception as raised:  # noqa: BLE001 (it is raised where it is waited for)
            error = raised
        with suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(settle, result, error)

    threading.Thread(target=run, name="acme", daemon=True).start()
    return await ended
