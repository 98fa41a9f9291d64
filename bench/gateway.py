"""The gateway that is measured: a real `moorage dev`, on a core of its own."""

import asyncio
import contextlib
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from measure import SERVER_CPU, on_cpu
from support.clients.wallet import Answer, Wallet
from support.gateway.gateway_fixture import MOORAGE, DevGateway, running

REPOSITORY = Path(__file__).parents[1]
EXAMPLES = REPOSITORY / "examples"
UNLIMITED = "100000000"


@contextlib.contextmanager
def gateway(
    *, pinned: bool = True, program: Sequence[str] = (MOORAGE,), **settings: str
) -> Iterator[DevGateway]:
    """A running gateway without rate limits; `pinned` keeps it and all it starts on one core."""
    with tempfile.TemporaryDirectory(prefix="moorage-bench-") as directory:
        pinning = on_cpu(SERVER_CPU) if pinned else contextlib.nullcontext()
        with contextlib.ExitStack() as stack:
            with pinning:
                started = stack.enter_context(
                    running(
                        Path(directory),
                        program=program,
                        requests_per_minute=UNLIMITED,
                        **settings,
                    )
                )
            yield started


def api_port(of: DevGateway) -> int:
    """Where the API answers."""
    return urlsplit(of.url).port or 80


def example_files(name: str) -> dict[str, str]:
    """The files of one of `examples/`."""
    root = EXAMPLES / name
    return {
        str(path.relative_to(root)): path.read_text()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


async def funded(of: DevGateway, *, amount: int = 1_000_000_000) -> Wallet:
    """A wallet with gas and tokens."""
    return await Wallet(of).fund(amount=amount)


async def deployed(wallet: Wallet, name: str, example: str) -> Answer:
    """An example, paid for, deployed, and ready."""
    answer = await wallet.deploy_paid(name, example_files(example))
    settled = await wallet.settled(answer, within_seconds=120)
    assert settled["status"] == "ready", settled
    return answer


def one_deployed(of: DevGateway, name: str = "bench-hello") -> tuple[Wallet, Answer]:
    """A wallet, and its hello-node that is ready."""

    async def deploy() -> tuple[Wallet, Answer]:
        wallet = await funded(of)
        return wallet, await deployed(wallet, name, "hello-node")

    return asyncio.run(deploy())
