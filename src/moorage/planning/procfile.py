"""The `web` line of a Procfile, which says how an app is started."""

import re

from moorage.errors import UploadInvalid
from moorage.planning.explicit import COMMAND_LIMIT
from moorage.planning.folder import Folder

_WEB = re.compile(r"^web:[ \t]*(\S.*)$", re.MULTILINE)
LIMIT = 65_536  # bytes


def web_line(folder: Folder) -> str | None:
    """The command of the Procfile's web line; None without either.

    Raises UploadInvalid for a Procfile that is no text or too long.
    """
    if not folder.has("Procfile"):
        return None
    match = _WEB.search(folder.text("Procfile", limit=LIMIT).replace("\r", ""))
    if match is None:
        return None
    command = match[1].strip()
    if "\0" in command or len(command) > COMMAND_LIMIT:
        raise UploadInvalid(
            f"must have a web line of at most {COMMAND_LIMIT:,} characters, without NUL",
            path=folder.path("Procfile"),
        )
    return command
