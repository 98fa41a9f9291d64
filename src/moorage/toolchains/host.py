"""What programs the machine itself has for apps, and in which versions.

Only what lies where apps see it: below /usr, on the PATH they are given.
"""

import asyncio
import re
from asyncio.subprocess import DEVNULL, PIPE, STDOUT
from collections.abc import Sequence
from pathlib import Path

BIN = (Path("/usr/local/bin"), Path("/usr/bin"))
_SECONDS = 5.0

# How each is asked for its version.
_QUESTIONS = {
    "node": ("node", "--version"),
    "npm": ("npm", "--version"),
    "pnpm": ("pnpm", "--version"),
    "yarn": ("yarn", "--version"),
    "bun": ("bun", "--version"),
    "deno": ("deno", "--version"),
    "go": ("go", "version"),
    "rust": ("cargo", "--version"),
    "php": ("php", "--version"),
    "composer": ("composer", "--version"),
    "ruby": ("ruby", "--version"),
    "bundler": ("bundle", "--version"),
    "java": ("java", "-version"),
    "maven": ("mvn", "--version"),
    "gradle": ("gradle", "--version"),
}
_VERSION = re.compile(r"(\d+)\.(\d+)(?:\.(\d+))?")
_PYTHON = re.compile(r"python3\.\d{1,2}\Z")


async def host_versions(path: Sequence[Path] = BIN) -> dict[str, tuple[str, ...]]:
    """The version of each program the machine has, and of every Python 3, by program."""
    questions = {program: words for program, words in _QUESTIONS.items() if _find(path, words[0])}
    pythons = sorted({p.name for d in path for p in d.glob("python3.*") if _PYTHON.match(p.name)})
    asked = [*questions.items(), *(("python", (name, "--version")) for name in pythons)]
    answers = await asyncio.gather(*(_ask(path, words) for _, words in asked))
    found: dict[str, tuple[str, ...]] = {}
    for (program, _), version in zip(asked, answers, strict=True):
        if version is not None:
            found[program] = (*found.get(program, ()), version)
    return found


async def _ask(path: Sequence[Path], words: tuple[str, ...]) -> str | None:
    """The first version a program prints, with three parts; None when it prints none in time."""
    program = _find(path, words[0])
    process = await asyncio.create_subprocess_exec(
        str(program),
        *words[1:],
        stdin=DEVNULL,
        stdout=PIPE,
        stderr=STDOUT,
        env={"PATH": ":".join(map(str, (*path, "/bin"))), "HOME": "/nonexistent", "LC_ALL": "C"},
        cwd="/",
    )
    try:
        async with asyncio.timeout(_SECONDS):
            said, _ = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        return None
    match = _VERSION.search(said.decode(errors="replace"))
    return f"{match[1]}.{match[2]}.{match[3] or 0}" if match else None


def _find(path: Sequence[Path], name: str) -> Path | None:
    return next((d / name for d in path if (d / name).is_file()), None)
