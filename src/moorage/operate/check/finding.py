"""One thing that a gateway needs."""

import msgspec


class Finding(msgspec.Struct, frozen=True):
    """Whether something is there, and the command or change that mends it."""

    name: str
    ok: bool
    detail: str
    remedy: str = ""
    warns: bool = False  # it works like this, and the remedy makes it safer
    blocks: bool = True  # a gateway does not start without it; else it starts and says so
