"""The calls about links to a wallet's pages, for people who have no wallet."""

import msgspec

from moorage.sdk.transport import Transport, path_of
from moorage.wire.links import LinkBody, LinkList, LinkMade, LinkRemoved

_LINKS = path_of("agent", "links")


class LinkCalls(Transport):
    """What a `Client` calls to make, list and remove links."""

    async def dashboard(self) -> LinkMade:
        """Makes a link that opens this wallet's pages once, within 10 minutes."""
        return await self.make_link(LinkBody(once=True))

    async def make_link(self, link: LinkBody) -> LinkMade:
        """Makes a link; its URL is in this answer alone."""
        body = msgspec.json.encode(link)
        return await self._patiently(
            lambda: self._send("POST", _LINKS, LinkMade, body=body), even_if_lost=False
        )

    async def links(self) -> LinkList:
        """Returns this wallet's read-only links, and when each was last opened."""
        return await self._get(_LINKS, LinkList)

    async def remove_link(self, link_id: str) -> LinkRemoved:
        """Ends a link, and whatever it has opened."""
        path = path_of("agent", "links", link_id)
        return await self._patiently(
            lambda: self._send("DELETE", path, LinkRemoved), even_if_lost=False
        )
