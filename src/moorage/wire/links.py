"""Links to pages, for people whose wallet's key is with their agent."""

from typing import Annotated, Literal

from msgspec import UNSET, Meta, UnsetType

from moorage.wire.shape import Absent, CamelBody, Time


class LinkBody(CamelBody, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a link is to open; by itself a look at everything, for 7 days."""

    once: Annotated[
        bool, Meta(description="opens once, within 10 minutes, and lets its reader change things")
    ] = False
    project_id: Annotated[str, Meta(description="the only project to show")] | UnsetType = UNSET
    label: Annotated[str, Meta(max_length=100, description="for people")] = ""
    days: Annotated[int, Meta(ge=1, le=90, description="not with once")] | UnsetType = UNSET


class LinkItem(CamelBody, frozen=True, kw_only=True):
    """A link, whose URL is told once."""

    id: str
    project_id: Annotated[str | None, Absent(None)]
    label: Annotated[str, Absent("")]
    created_at: Annotated[Time, Absent("")]
    expires_at: Time
    used_at: Annotated[Time | None, Absent(None)]


class LinkMade(LinkItem, frozen=True, kw_only=True):
    """A new link: whoever has `url` can open it."""

    url: str


class LinkList(CamelBody, frozen=True, kw_only=True):
    """The read-only links of a wallet, oldest first."""

    links: list[LinkItem]


class LinkRemoved(CamelBody, frozen=True, kw_only=True):
    """A link that opens nothing any more."""

    id: str
    status: Literal["removed"] = "removed"
