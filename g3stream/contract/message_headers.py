"""The headers of a consumed record, so that those which can't be read are an exception here, and nothing worse.

confluent-kafka (2.16) makes a list of (name, value), in which a name that isn't UTF-8 is a null pointer, and returns
it with an exception set. Called from Python bytecode, that exception comes out wherever the interpreter looks next:
at some other call, on 3.13. Called from C it comes out at once, as a SystemError, on every version. And the list
stays with the message: whoever asks for it again gets it without an exception, and crashes in it.
"""

from operator import methodcaller
from typing import Protocol

from g3stream.contract.errors import ContractError

Headers = list[tuple[str, bytes | None]]


class ConsumedMessage(Protocol):
    """A consumed record, as far as pure code looks at it: confluent_kafka's Message, without its import."""

    def headers(self) -> object: ...
    def set_headers(self, headers: list[tuple[str, str | bytes | None]], /) -> None: ...
    def value(self) -> bytes | None: ...
    def timestamp(self) -> tuple[int, int]: ...
    def offset(self) -> int | None: ...
    def __len__(self) -> int: ...


_headers_called_from_c = methodcaller("headers")
_UNREADABLE: list[tuple[str, str | bytes | None]] = []
"""Known by its identity: in place of headers that could not be read."""
_WHY = "a record with a header that can't be read"


def headers_of(message: ConsumedMessage) -> Headers:
    """The headers of a record, in order; for each call the same. Raises ContractError if they can't be read."""
    try:
        found: Headers | None = _headers_called_from_c(message)
    except SystemError:
        message.set_headers(_UNREADABLE)
        raise ContractError(_WHY) from None
    if found is _UNREADABLE:
        raise ContractError(_WHY)
    return found or []
