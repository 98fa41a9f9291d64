"""What an upload's files hold beside the app that its deployer should know of."""

from enum import StrEnum

import msgspec


class FindingKind(StrEnum):
    """What was found."""

    CREDENTIAL_FILE = "credential_file"  # a file that is nothing but a secret
    CREDENTIAL_TEXT = "credential_text"  # a secret within another file
    WRITES = "writes"  # code that writes files, or the library of a database in files
    NAMES_VOLUME = "names_volume"  # code that names the volume's directory


class Finding(msgspec.Struct, frozen=True):
    """One finding; `what` completes “<path> holds …” or “<path> uses …”."""

    kind: FindingKind
    path: str
    what: str
