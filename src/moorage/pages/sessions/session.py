"""A session of a wallet's pages: whose wallet is looked at, and what they may do."""

from dataclasses import dataclass

from moorage.api.http.caller import Person


@dataclass(frozen=True, kw_only=True)
class Session:
    """Somebody who signed in, or opened a link."""

    id: str  # not its secret
    wallet: str  # 0x and 40 hex digits in lower case
    project_id: str | None  # a link may be for one project alone
    may_change: bool  # False for read-only links
    csrf: str  # every form that changes something repeats it
    expires_ms: int
    signed_ms: int | None  # when the last text was issued that the wallet signed; None for a link

    @property
    def person(self) -> Person:
        """Who asks, as the API in this process knows them."""
        return Person(self.wallet, project_id=self.project_id, may_change=self.may_change)
