"""How a request is signed, as a 401 tells it."""

from typing import Annotated

from msgspec import Meta

from moorage.wire.shape import Body


class SigningRecipe(Body, frozen=True, kw_only=True):
    """The four headers of a signed request, and an example."""

    headers: Annotated[dict[str, str], Meta(description="what each header holds")]
    text: Annotated[str, Meta(description="the text to sign by personal_sign (EIP-191)")]
    example_private_key: str
    example: Annotated[dict[str, str], Meta(description="the headers that this key signs")]
