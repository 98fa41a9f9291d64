"""The root of all errors."""


class MoorageError(Exception):
    """Something went wrong."""

    receipt: object | None = None
    """The `PaymentReceipt` of what was paid before the error, if anything was."""

    payment: object | None = None
    """The `PaymentOutcome` of the payment that came with the request."""

    def __init__(self, message: str = "") -> None:
        super().__init__(message or (type(self).__doc__ or "").strip())

    @property
    def message(self) -> str:
        """The message for a person."""
        return str(self.args[0])
