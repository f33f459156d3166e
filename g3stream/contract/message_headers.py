"""The headers of a consumed message, with unreadable ones turned into a ContractError.

Without this module they can crash the process. confluent-kafka (2.16) makes a list of (name, value) pairs in which a
name that isn't UTF-8 is a null pointer, and returns the list with an exception set. If the method is called from
Python bytecode, that exception appears wherever the interpreter checks next: on 3.13, in some other call. If it is
called from C, the exception appears at once, as a SystemError, on every version. And the message keeps the list: the
next call of `headers` returns it without an exception, and using it crashes.
"""

from operator import methodcaller
from typing import Protocol

from g3stream.contract.errors import ContractError

ConsumedHeaders = list[tuple[str, bytes | None]]
"""Headers as a Kafka consumer returns them: (name, value) pairs, in order; a value may be null."""


class ConsumedMessage(Protocol):
    """The part of confluent_kafka's Message that pure code uses, without importing it."""

    def headers(self) -> object: ...
    def set_headers(self, headers: list[tuple[str, str | bytes | None]], /) -> None: ...
    def value(self) -> bytes | None: ...
    def timestamp(self) -> tuple[int, int]: ...
    def offset(self) -> int | None: ...
    def __len__(self) -> int: ...


_headers_called_from_c = methodcaller("headers")
_UNREADABLE: list[tuple[str, str | bytes | None]] = []
"""Set on a message in place of headers that could not be read; recognized by identity."""
_WHY = "a record with a header that can't be read"


def headers_of(message: ConsumedMessage) -> ConsumedHeaders:
    """Return a message's headers, in order. Raises ContractError, at each call, if they can't be read."""
    try:
        found: ConsumedHeaders | None = _headers_called_from_c(message)
    except SystemError:
        message.set_headers(_UNREADABLE)
        raise ContractError(_WHY) from None
    if found is _UNREADABLE:
        raise ContractError(_WHY)
    return found or []
