"""The room's services over a real database, with an authority and a proxy in memory."""

from collections.abc import Mapping

from moorage.certificates.authority import Authority
from moorage.certificates.certificates import Certificates
from moorage.certificates.installation import Installation, WildcardFiles
from moorage.certificates.orders import Orders, PlacedProofs
from moorage.certificates.pem import digest
from moorage.errors import ProxyFailed
from moorage.storage.database import Database
from moorage.storage.vault import Vault
from support.books.records_fixture import ALICE
from support.gateway.authority_in_memory import AuthorityInMemory
from support.gateway.clock import MovableClock

BASE = "apps.example"


class ProxyInMemory:
    """Remembers what was installed."""

    def __init__(self) -> None:
        self.pems: dict[str, bytes] = {}
        self.changes: list[str] = []
        self.refuses: set[str] = set()

    def installed(self) -> Mapping[str, str]:
        return {name: digest(pem) for name, pem in self.pems.items()}

    async def install(self, name: str, pem: bytes) -> None:
        if name in self.refuses:
            raise ProxyFailed("The proxy does not take it.")
        self.changes.append(name)
        self.pems[name] = pem

    async def remove(self, name: str) -> None:
        self.changes.append(f"-{name}")
        del self.pems[name]


class Room:
    """One gateway's."""

    def __init__(
        self,
        db: Database,
        clock: MovableClock,
        *authorities: Authority,
        hook: tuple[str, ...] = (),
        files: WildcardFiles | None = None,
        own_names: tuple[str, ...] = (),
        per_wallet: int = 1000,
    ) -> None:
        self.db, self.clock = db, clock
        self.vault = Vault([bytes(32)])
        self.authority = AuthorityInMemory(clock)
        self.proxy = ProxyInMemory()
        self.proofs = PlacedProofs(db, hook=hook, clock=clock)
        self.installation = Installation(
            db=db, vault=self.vault, proxy=self.proxy, files=files, clock=clock
        )
        self.orders = Orders(
            db=db,
            vault=self.vault,
            authorities=authorities or (self.authority,),
            proofs=self.proofs,
            clock=clock,
            on_issued=self.installation.follow,
        )
        self.certificates = Certificates(
            db=db,
            own_names=own_names,
            wildcards=(BASE,) if hook or files else (),
            files=files,
            per_wallet=per_wallet,
            clock=clock,
            kick=self.orders.kick,
            pause=self._pause,
        )

    async def _pause(self, seconds: float) -> None:
        """While somebody waits for a certificate, what is due is ordered."""
        await self.begin()
        self.clock.advance(round(seconds * 1000))

    async def want(self, *hosts: str, wallet: str = ALICE) -> None:
        for host in hosts:
            assert await self.certificates.want(host, wallet)

    async def begin(self) -> None:
        """One tick, and the end of what it began."""
        await self.orders.begin()
        await self.orders.settled()

    async def pass_time(self, milliseconds: int, *, every_ms: int = 60_000) -> None:
        """Lets time pass with a tick each `every_ms`; what is wanted, is wanted still."""
        until_ms = self.clock.now_ms() + milliseconds
        while self.clock.now_ms() < until_ms:
            self.clock.advance(every_ms)
            await self.begin()
