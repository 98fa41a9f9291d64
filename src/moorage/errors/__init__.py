"""Every error Moorage raises on purpose, as one tree.

    MoorageError
    ├── InvalidRequest              the request itself can't be accepted
    │   ├── FieldError              names a field of the body, or a header
    │   │   └── InvalidField  RuntimeUnsupported  PaymentMalformed  UploadNotFound
    │   └── UploadInvalid  NameUnavailable  PlanNotFound  PlanTooCostly
    ├── BodyTooLarge  BodyStalled
    ├── AuthError
    │   ├── AuthMissing  TimestampExpired  SignatureInvalid  SignatureUnbound  NonceReused
    │   └── TokenInvalid
    ├── AuthUnavailable  AlreadyRunning     no nonce can be recorded; the data directory is in use
    ├── WrongWallet  TokenScope  LinkScope  ConfirmationMissing
    ├── (Project|Deployment|Export|Domain|Webhook|Event|Link)NotFound  TooManyLinks  ExportFailed
    ├── ProjectBlocked              the operator has suspended the project, or the wallet
    ├── ProjectPaused               its owner has paused it
    ├── WalletNotListed  TooManyProjects  Maintenance      the operator takes no (new) deploys
    ├── SignatureNeeded             asked by a payment alone; the signed answer says why
    ├── ReleaseServing  ReleaseNeverServed  ReleaseGone  NoEarlierRelease  DeploymentOver
    ├── FilesWouldBeLost            what the running version has written would be lost
    ├── OutOfCredits  IdempotencyKeyReused  IdempotencyInProgress
    ├── RateLimited (TooManyStreams  TooManyUploads)
    ├── PaymentError                the payment that was sent does not (yet) pay
    │   ├── PaymentPending          its outcome is not known yet; the same one may be sent again
    │   ├── PaymentNotFound  PayerMismatch      it has no transfer by this wallet
    │   ├── PaymentShort  PaymentHeld           credited, but less than the price; held apart
    │   ├── ChallengeInvalid  ChallengeExpired  AuthorizationRefused      unspent
    │   └── PaymentAlreadyUsed      this hash has already paid for a deployment, or topped up
    ├── BackupFailed  BackupInvalid  RefundRefused     by the operator's commands; nothing was done
    ├── BooksWrong                  a report can't be made, as the ledger breaks its own rules
    ├── ChainUnavailable            the node can't be reached or contradicts itself
    ├── NoCapacity  PlannersBusy  UploadDisplaced     there is no room for the request now
    ├── KeeperAway  ClusterUnavailable  ContentUnavailable      apps or files are out of reach now
    ├── VariablesUnreadable         a project's sealed variables can't be opened
    ├── DatabaseUnavailable         the database can't be read or written right now; nothing changed
    │   ├── WriteConflict  UniqueViolation      a row changed, or its key exists; nothing written
    │   ├── SchemaUnknown           it is of a newer version, or from before the first release
    │   └── CommitUnknown           whether the transaction was committed is not known
    ├── DeployFailed                a deployment ended before `ready`, and why
    └── IsolationMissing  ConfigurationInvalid  LocalChainFailed  ProxyFailed      it can't run

A class's docstring is the message for a person, unless the instance has its own. Details are
fields, never parsed out of text. HTTP statuses and machine codes are in `api.http.problems`.
"""

from moorage.errors.gateway import (
    BackupFailed,
    BackupInvalid,
    BooksWrong,
    ChainUnavailable,
    ClusterUnavailable,
    CommitUnknown,
    ConfigurationInvalid,
    ContentUnavailable,
    DatabaseUnavailable,
    DeployFailed,
    IsolationMissing,
    KeeperAway,
    LocalChainFailed,
    NoCapacity,
    PlannersBusy,
    ProxyFailed,
    RefundRefused,
    SchemaUnknown,
    UniqueViolation,
    UploadDisplaced,
    VariablesUnreadable,
    WriteConflict,
)
from moorage.errors.payments import (
    AuthorizationRefused,
    ChallengeExpired,
    ChallengeInvalid,
    PayerMismatch,
    PaymentAlreadyUsed,
    PaymentError,
    PaymentHeld,
    PaymentNotFound,
    PaymentPending,
    PaymentShort,
)
from moorage.errors.requests import (
    AlreadyRunning,
    AuthError,
    AuthMissing,
    AuthUnavailable,
    BodyStalled,
    BodyTooLarge,
    ConfirmationMissing,
    DeploymentNotFound,
    DeploymentOver,
    DomainNotFound,
    EventNotFound,
    ExportFailed,
    ExportNotFound,
    FieldError,
    FilesWouldBeLost,
    IdempotencyInProgress,
    IdempotencyKeyReused,
    InvalidField,
    InvalidRequest,
    LinkNotFound,
    LinkScope,
    Maintenance,
    NameUnavailable,
    NoEarlierRelease,
    NonceReused,
    OutOfCredits,
    PaymentMalformed,
    PlanNotFound,
    PlanTooCostly,
    ProjectBlocked,
    ProjectNotFound,
    ProjectPaused,
    RateLimited,
    ReleaseGone,
    ReleaseNeverServed,
    ReleaseServing,
    RuntimeUnsupported,
    SignatureInvalid,
    SignatureNeeded,
    SignatureUnbound,
    TimestampExpired,
    TokenInvalid,
    TokenScope,
    TooManyLinks,
    TooManyProjects,
    TooManyStreams,
    TooManyUploads,
    UploadInvalid,
    UploadNotFound,
    WalletNotListed,
    WebhookNotFound,
    WrongWallet,
)
from moorage.errors.root import (
    MoorageError,
)
from moorage.failure import FailureCause

__all__ = [
    "AlreadyRunning",
    "AuthError",
    "AuthMissing",
    "AuthUnavailable",
    "AuthorizationRefused",
    "BackupFailed",
    "BackupInvalid",
    "BodyStalled",
    "BodyTooLarge",
    "BooksWrong",
    "ChainUnavailable",
    "ChallengeExpired",
    "ChallengeInvalid",
    "ClusterUnavailable",
    "CommitUnknown",
    "ConfigurationInvalid",
    "ConfirmationMissing",
    "ContentUnavailable",
    "DatabaseUnavailable",
    "DeployFailed",
    "DeploymentNotFound",
    "DeploymentOver",
    "DomainNotFound",
    "EventNotFound",
    "ExportFailed",
    "ExportNotFound",
    "FailureCause",
    "FieldError",
    "FilesWouldBeLost",
    "IdempotencyInProgress",
    "IdempotencyKeyReused",
    "InvalidField",
    "InvalidRequest",
    "IsolationMissing",
    "KeeperAway",
    "LinkNotFound",
    "LinkScope",
    "LocalChainFailed",
    "Maintenance",
    "MoorageError",
    "NameUnavailable",
    "NoCapacity",
    "NoEarlierRelease",
    "NonceReused",
    "OutOfCredits",
    "PayerMismatch",
    "PaymentAlreadyUsed",
    "PaymentError",
    "PaymentHeld",
    "PaymentMalformed",
    "PaymentNotFound",
    "PaymentPending",
    "PaymentShort",
    "PlanNotFound",
    "PlanTooCostly",
    "PlannersBusy",
    "ProjectBlocked",
    "ProjectNotFound",
    "ProjectPaused",
    "ProxyFailed",
    "RateLimited",
    "RefundRefused",
    "ReleaseGone",
    "ReleaseNeverServed",
    "ReleaseServing",
    "RuntimeUnsupported",
    "SchemaUnknown",
    "SignatureInvalid",
    "SignatureNeeded",
    "SignatureUnbound",
    "TimestampExpired",
    "TokenInvalid",
    "TokenScope",
    "TooManyLinks",
    "TooManyProjects",
    "TooManyStreams",
    "TooManyUploads",
    "UniqueViolation",
    "UploadDisplaced",
    "UploadInvalid",
    "UploadNotFound",
    "VariablesUnreadable",
    "WalletNotListed",
    "WebhookNotFound",
    "WriteConflict",
    "WrongWallet",
]
