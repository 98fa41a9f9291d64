"""The settings as they are in force, what a restart would change, and what starts changed."""

import msgspec
from starlette.responses import Response

from moorage.errors import MoorageError
from moorage.gateway.configuration import compare
from moorage.pages.operator.view import PER_PAGE, View
from moorage.settings import Settings, described, recorded
from moorage.storage.operation import configuration
from moorage.storage.operation.configuration import ConfigurationChange


async def shown(view: View) -> Response:
    """`GET /operator/settings`: secrets by a fingerprint alone."""
    text = view.query.get("q", "").strip().lower()
    default = described(Settings())
    rows = [
        (name, _text(value), value != default.get(name))
        for name, value in described(view.desk.settings).items()
        if text in name
    ]
    changes, problem = _waiting(view)
    return view.page("settings.html", rows=rows, waiting=changes, problem=problem)


async def history(view: View) -> Response:
    """`GET /operator/settings/history`: what starts have changed, the newest first."""
    every = await configuration.history(view.books.db)
    first_ms = min((each.at_ms for each in every), default=0)
    found = [each for each in reversed(every) if each.at_ms != first_ms]
    part = found[view.offset : view.offset + PER_PAGE]
    more = len(found) > view.offset + PER_PAGE
    return view.page("settings_history.html", changes=part, parts=view.neighbours(has_more=more))


def _waiting(view: View) -> tuple[list[ConfigurationChange], str]:
    """Returns what the next start would change, and why that is not known.

    What the file said at the start may differ from what is in force, as `moorage dev` adds to it.
    """
    desk = view.desk
    try:
        now, in_force = recorded(desk.load()), recorded(desk.settings)
        changed = compare(recorded(desk.configured), now, now_ms=desk.clock.now_ms())
        return [each for each in changed if each.after != in_force.get(each.setting)], ""
    except (MoorageError, OSError) as error:
        return [], error.message if isinstance(error, MoorageError) else str(error.strerror)


def _text(value: object) -> str:
    """Returns a value as it is written: a text as it is, all else as JSON."""
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
