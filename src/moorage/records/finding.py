"""What an upload's files hold beside the app that its deployer should know of."""

from collections.abc import Iterable
from enum import StrEnum

import msgspec


class FindingKind(StrEnum):
    """What was found."""

    CREDENTIAL_FILE = "credential_file"  # a file that is nothing but a secret
    CREDENTIAL_TEXT = "credential_text"  # a secret within another file
    WRITES = "writes"  # code that writes files, or the library of a database in files
    LEFT_OUT = "left_out"  # a directory of pages, or with a program, which the app does not use
    NAMES_VOLUME = "names_volume"  # code that names the volume's directory


class Finding(msgspec.Struct, frozen=True):
    """One finding; `what` completes “<path> holds …” or “<path> uses …”."""

    kind: FindingKind
    path: str
    what: str


def kept(findings: Iterable[Finding]) -> list[Finding]:
    """Returns the findings that are stored: those that a gateway of the version before can read."""
    return [found for found in findings if found.kind is not FindingKind.LEFT_OUT]


def said_left_out(found: Finding) -> str:
    """Returns the sentence about a directory that the app leaves out."""
    if not found.what:
        return (
            f"{found.path} is a page beside the app's directory, and nothing in the app's code "
            "names it: it is not served. Move it to where the app serves it."
        )
    return (
        f"{found.path}/ has {found.what}, and nothing in the app's code names it: it is not "
        f"served. Let the app serve it, or deploy it by itself (settings.directoryPath: "
        f"{found.path})."
    )
