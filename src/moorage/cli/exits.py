"""Exit codes, and which error gets which. `--help` shows the table."""

from enum import IntEnum

from moorage.errors import (
    BackupFailed,
    BackupInvalid,
    ChainUnavailable,
    CommitUnknown,
    ConfigurationInvalid,
    DatabaseUnavailable,
    InvalidRequest,
    MoorageError,
    RefundRefused,
    SchemaUnknown,
)


class Exit(IntEnum):
    """The exit codes; scripts and agents branch on these."""

    OK = 0
    FAILED = 1  # the deployment failed, or something went wrong that no code below names
    INVALID = 2  # usage, configuration, or a request the gateway refuses
    DO_NOT_PAY_AGAIN = 3  # a payment's outcome is open, or it was not approved
    TRY_AGAIN = 4  # gateway or node unreachable or busy; nothing was paid
    NOT_YOURS = 5  # no such project or deployment, somebody else's, or not authenticated
    CANNOT_PAY = 6  # the wallet holds too little; nothing was paid
    INTERRUPTED = 130
    READER_GONE = 141  # whoever read the output left; as shells count a SIGPIPE


EXIT_CODES = (
    (Exit.OK, "done"),
    (Exit.FAILED, "failed, or found something wrong; what, is printed"),
    (Exit.INVALID, "wrong usage, configuration or request; change it"),
    (Exit.DO_NOT_PAY_AGAIN, "a payment is uncertain or was not approved; do not pay by hand"),
    (Exit.TRY_AGAIN, "gateway or chain unreachable or busy; nothing was paid, try again"),
    (Exit.NOT_YOURS, "no such project, another wallet's, or the signature was refused"),
    (Exit.CANNOT_PAY, "the wallet holds too little to pay; nothing was paid"),
)


def exit_code(error: MoorageError) -> Exit:
    """The code for `error`."""
    from moorage.sdk import errors as sdk

    families: tuple[tuple[type[MoorageError], Exit], ...] = (
        (InvalidRequest, Exit.INVALID),
        (ConfigurationInvalid, Exit.INVALID),
        (RefundRefused, Exit.INVALID),
        (BackupFailed, Exit.FAILED),
        (BackupInvalid, Exit.INVALID),
        (ChainUnavailable, Exit.TRY_AGAIN),
        (CommitUnknown, Exit.DO_NOT_PAY_AGAIN),
        (SchemaUnknown, Exit.INVALID),
        (DatabaseUnavailable, Exit.TRY_AGAIN),
        (sdk.PaymentKept, Exit.DO_NOT_PAY_AGAIN),
        (sdk.BalanceShort, Exit.CANNOT_PAY),
        (sdk.PaymentReverted, Exit.TRY_AGAIN),
        (sdk.PaymentReplaced, Exit.TRY_AGAIN),
        (sdk.NotPaid, Exit.DO_NOT_PAY_AGAIN),
        (sdk.RequestRefused, Exit.INVALID),
        (sdk.DirectoryInvalid, Exit.INVALID),
        (sdk.ClientMisconfigured, Exit.INVALID),
        (sdk.JournalUnwritable, Exit.INVALID),
        (sdk.AnswerUnreadable, Exit.INVALID),
        (sdk.NodeRefused, Exit.TRY_AGAIN),
        (sdk.NotAuthenticated, Exit.NOT_YOURS),
        (sdk.Forbidden, Exit.NOT_YOURS),
        (sdk.NotFound, Exit.NOT_YOURS),
    )
    for family, code in families:
        if isinstance(error, family) and not (
            isinstance(error, sdk.NotAuthenticated) and error.retryable
        ):
            return code
    if isinstance(error, sdk.ClientError) and error.retryable:
        return Exit.TRY_AGAIN
    return Exit.FAILED
