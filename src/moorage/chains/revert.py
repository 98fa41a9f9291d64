"""Why a node says that a call would be reverted."""

from moorage.chains.rpc import RpcError

_REVERTED = 3  # geth's code, and most others', for a revert that comes with data
_ERROR_SELECTOR = "0x08c379a0"  # Error(string)
_MOST_CHARACTERS = 120
_TEXT_AT = 4 + 32 + 32  # selector, offset, length


def revert_reason(answer: object) -> str | None:
    """The contract's reason, printable and short, if `answer` says that the call reverts.

    None for any other answer, also for a node's failure.
    """
    if not isinstance(answer, RpcError):
        return None
    if answer.code != _REVERTED and "revert" not in answer.detail.lower():
        return None
    reason = _error_text(answer.data) or answer.detail
    printable = "".join(letter for letter in reason if letter.isascii() and letter.isprintable())
    return printable[:_MOST_CHARACTERS].strip() or "the token refuses it"


def _error_text(data: object) -> str | None:
    """The string of `Error(string)`; None for other data."""
    if not isinstance(data, str) or not data.startswith(_ERROR_SELECTOR):
        return None
    try:
        encoded = bytes.fromhex(data[2:])
    except ValueError:
        return None
    length = int.from_bytes(encoded[_TEXT_AT - 32 : _TEXT_AT], "big")
    return encoded[_TEXT_AT : _TEXT_AT + min(length, _MOST_CHARACTERS)].decode(errors="replace")
