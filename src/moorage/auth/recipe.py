"""The recipe to sign a request, which each 401 gives."""

from typing import Final

from moorage.wire.problems import SigningRecipe

RECIPE: Final = SigningRecipe(
    headers={
        "X-Wallet-Address": "the wallet: 0x and 40 hex digits",
        "X-Timestamp": "Unix time in milliseconds, within 60 s of the gateway's clock",
        "X-Nonce": "a UUID, a new one for each request",
        "X-Signature": "0x and 65 bytes in hex: the wallet's signature of the text",
    },
    text="{X-Wallet-Address}:{X-Timestamp}:{X-Nonce}",
    example_private_key="0x" + "46" * 32,
    example={
        "X-Wallet-Address": "0x9d8A62f656a8d1615C1294fd71e9CFb3E4855A4F",
        "X-Timestamp": "1775556000000",
        "X-Nonce": "8d2f7a31-5b0e-4c6a-9f3d-2e1c0b9a8f7e",
        "X-Signature": "0xaf6eed6f30d34823699ac6fc5b9cea8acf297129e7ff0af18861dd1842e3d2ef"
        "72f7e429d9c9f8ff6eb515fd89db6bb1d134aa3d8ff8b4178a215c097e3f7bc31c",
    },
)
"""The example's key is a known one: nobody keeps money there."""
