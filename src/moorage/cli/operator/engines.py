"""`moorage engine` and `moorage bases`: which engine projects are on, and what it builds on."""

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from moorage.cli.exits import Exit
from moorage.cli.operator.options import DEFAULTS, OperatorOptions
from moorage.cli.screen import Screen

if TYPE_CHECKING:
    from moorage.operate.bases import Base
    from moorage.storage.apps.deployments import Placed

_NOT_NOTED = "not noted yet"


def engine(
    what: Literal["list", "move"],
    name: str = "",
    /,
    *,
    to: str = "",
    every: Annotated[bool, Parameter(name="--all", negative=())] = False,
    options: OperatorOptions = DEFAULTS,
) -> int:
    """List projects by engine, or move them: `moorage engine move --all --to docker`.

    A move builds the project's files anew on the other engine and switches to that once it is
    healthy; until then, and if it fails, the old version serves. The gateway makes the moves, as
    many at once as builds; `moorage engine list` says how they end. Before, set `isolation` to the
    new engine and `moving_from` to the old one, and start the gateway anew.

    Parameters
    ----------
    what
        `list` says which engine each project is on, `move` begins moves.
    name
        The project to move.
    to
        The engine to move to, as the setting `isolation` names it.
    every
        Move all projects that are not there yet.
    """
    from moorage.operate.engines import run_list, run_move

    settings, screen = options.settings(), options.screen()
    if what == "list":
        _show(screen, asyncio.run(run_list(settings)))
        return Exit.OK
    _require_one(name, every=every, to=to)
    found = asyncio.run(run_move(settings, name, to))
    screen.document({"moves": [{"name": each, "refused": why or None} for each, why in found]})
    for each, why in found:
        screen.result(f"{each} stays: {why}" if why else f"{each} moves to {to}")
    if not found:
        screen.note(f"every project is on {to}")
    return Exit.FAILED if any(why for _, why in found) else Exit.OK


def bases(
    *,
    pin: Annotated[bool, Parameter(negative=())] = False,
    options: OperatorOptions = DEFAULTS,
) -> int:
    """List the images that builds begin with: `moorage bases`.

    Those of projects that serve, as their next build asks for them, and the digests that the
    registries have now. Dockerfiles name their own.

    Parameters
    ----------
    pin
        Print `base_images` with these digests, for the settings: builds begin with them until you
        change it. A program has one image then, whatever version an app asks for.
    """
    from moorage.operate.bases import pins, run_bases

    settings, screen = options.settings(), options.screen()
    found = asyncio.run(run_bases(settings))
    if pin:
        pinned = pins(found, settings)
        screen.document({"base_images": pinned})
        screen.result("[images.base_images]")
        for program, image in pinned.items():
            screen.result(f'{program} = "{image}"')
        _warn_of_others(screen, found)
    else:
        screen.document({"bases": found})
        rows = [
            (each.program, each.image, str(each.projects), _pinned(each), each.digest or each.why)
            for each in found
        ]
        none = "No project that serves was built on an image."
        screen.table(("PROGRAM", "IMAGE", "PROJECTS", "PINNED", "DIGEST NOW"), rows, none=none)
    return Exit.FAILED if any(each.why for each in found) else Exit.OK


def _pinned(base: "Base") -> str:
    return "yes" if base.is_pinned else "no"


def _warn_of_others(screen: Screen, found: "list[Base]") -> None:
    """Says which images are not in the setting, as it has one for each program."""
    seen: set[str] = set()
    for each in found:
        if each.why:
            screen.warn(f"{each.image} is left out: {each.why}")
        elif each.program in seen:
            screen.warn(f"{each.image} is left out: more projects use another of {each.program}")
        else:
            seen.add(each.program)


def _require_one(name: str, *, every: bool, to: str) -> None:
    from moorage.errors import InvalidField

    if every == bool(name):
        raise InvalidField("NAME", "name a project, or all of them with --all")
    if not to:
        raise InvalidField("--to", "name the engine to move to")


def _show(screen: Screen, found: "list[Placed]") -> None:
    counts = Counter(each.engine or _NOT_NOTED for each in found)
    listed = [each._asdict() for each in found]
    screen.document({"engines": counts, "projects": listed})
    rows = [(each.name, each.wallet, each.engine or _NOT_NOTED, _move(each)) for each in found]
    screen.table(("NAME", "WALLET", "ENGINE", "MOVE"), rows, none="No project serves.")
    if found:
        screen.note(", ".join(f"{number} on {name}" for name, number in sorted(counts.items())))


def _move(placed: "Placed") -> str:
    if placed.move is None:
        return "-"
    return f"{placed.move}: {placed.reason}" if placed.reason else str(placed.move)
