"""The error raised where a name or a record breaks the contract."""


class ContractError(ValueError):
    """A name or a record that breaks the contract; the message says what, and quotes no untrusted bytes raw."""
