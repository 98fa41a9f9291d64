"""One thing that a gateway needs."""

import msgspec


class Finding(msgspec.Struct, frozen=True):
    """Whether something is there, and the command or change that mends it."""

    name: str
    ok: bool
    detail: str
    remedy: str = ""
    blocks: bool = True  # a gateway does not start without it; else it starts and says so
