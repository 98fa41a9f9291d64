"""Programs of this machine that the node runs."""

import asyncio


async def run(*words: str, stdin: str = "") -> str:
    """What a command prints. Raises RuntimeError with its words if it fails."""
    process = await asyncio.create_subprocess_exec(
        *words,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await process.communicate(stdin.encode())
    if process.returncode:
        raise RuntimeError(f"{' '.join(words)}: {said.decode(errors='replace')}")
    return said.decode()
