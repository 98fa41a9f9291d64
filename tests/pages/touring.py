"""Every page of a gateway's two sites, for who may see all of them."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Literal

from browsing import AsOperator, LinkedIn, Visitor
from furnished import Furnished
from playwright.async_api import Page

from moorage.pages.operator.site import HOME
from moorage.pages.operator.site import PAGES as OF_OPERATORS
from moorage.pages.wallet.site import PAGES as OF_WALLETS

Site = Literal["wallet", "operator"]
_NO_PAGES = (
    *(".csv", ".json", "/stream", "/download", "/watch", "/top-up/pay"),
    *("/glance", "/table", "/logs/search"),
)

PATHS: dict[Site, list[str]] = {
    "wallet": [path for method, path, _ in OF_WALLETS if method == "GET"],
    "operator": [HOME + path for method, path, _ in OF_OPERATORS if method == "GET"],
}


@dataclass(frozen=True)
class Tours:
    """Makes visitors, and leads them through all pages of a site."""

    things: Furnished
    linked_in: LinkedIn
    as_operator: AsOperator

    async def visitor(self, site: Site, **looks: Any) -> Visitor:
        """Somebody who may see all pages of the site."""
        if site == "operator":
            return await self.as_operator(**looks)
        return await self.linked_in(self.things.wallet, **looks)

    async def seen(
        self, site: Site, look: Callable[[Page], Awaitable[object]], **looks: Any
    ) -> list[str]:
        """What a look at each page finds, if anything; it leaves the browser as it was."""
        person, found = await self.visitor(site, **looks), []
        page = await person.new_page()  # one for all, as each costs what a load does
        for pattern in PATHS[site]:
            if pattern.endswith(_NO_PAGES):
                continue
            await page.goto(person.home + self.things.path(pattern))
            if seen := await look(page):
                found.append(f"{pattern}: {seen}")
        return found
