"""What the gateway, its machine, its chains or its operator's command cannot do."""

from moorage.errors.root import MoorageError
from moorage.failure import FailureCause


class BackupFailed(MoorageError):
    """The backup cannot be made or put back; the message says why. Nothing was changed."""


class BackupInvalid(MoorageError):
    """The file is no whole backup of a gateway; the message says why. Nothing was changed."""


class BooksWrong(MoorageError):
    """The ledger holds what no rule explains; `moorage operator audit` names the rows."""


class RefundRefused(MoorageError):
    """The refund cannot be made. Nothing was sent."""


class ChainUnavailable(MoorageError):
    """The chain cannot be read right now. Nothing was recorded; send the same request again."""


class VariablesUnreadable(MoorageError):
    """The project's stored variables cannot be opened. Tell the gateway's operator."""


class DatabaseUnavailable(MoorageError):
    """The gateway cannot tell your balance right now. Nothing changed: do not pay, try again."""


class WriteConflict(DatabaseUnavailable):
    """Another request changed the same at the same moment. Nothing changed: send it again."""


class UniqueViolation(WriteConflict):
    """Another request made the same at the same moment. Nothing changed: send it again."""


class CommitUnknown(DatabaseUnavailable):
    """Whether this was recorded is not known. Do not pay again; look before you do it once more."""


class SchemaUnknown(DatabaseUnavailable):
    """The database is of a version of Moorage that this one does not know."""


class KeeperAway(MoorageError):
    """The gateway that keeps the apps is being replaced by another. Send the request again."""


class ClusterUnavailable(MoorageError):
    """The cluster that runs the apps does not answer. Send the request again shortly."""


class ContentUnavailable(MoorageError):
    """Stored files cannot be reached right now. A payment still counts: send the request again."""


class NoCapacity(MoorageError):
    """This gateway has no room for another app right now. Nothing was charged; try again later."""


class PlannersBusy(MoorageError):
    """The gateway reads other uploads right now. Nothing was charged; send it again shortly."""


class UploadDisplaced(MoorageError):
    """Too many upload at once, and this was slow: send it again. A payment made still counts."""


class DeployFailed(MoorageError):
    """A deployment ended before `ready`.

    `reason` is a sentence a person can act on, `log_tail` the last lines of the app or the build.
    """

    def __init__(self, cause: FailureCause, reason: str, *, log_tail: str = "") -> None:
        super().__init__(reason)
        self.cause, self.reason, self.log_tail = cause, reason, log_tail


class IsolationMissing(MoorageError):
    """This machine cannot isolate apps; `missing` lists what and the command that fixes it."""

    def __init__(self, missing: tuple[str, ...]) -> None:
        super().__init__("apps cannot be isolated here: " + "; ".join(missing))
        self.missing = missing


class ConfigurationInvalid(MoorageError):
    """The gateway cannot start with this configuration."""


class LocalChainFailed(MoorageError):
    """A local chain cannot run; the message says why and, if one does, which command fixes it."""


class ProxyFailed(MoorageError):
    """The proxy cannot run; the message says why."""
