"""The error for a name or a record that breaks the contract."""


class ContractError(ValueError):
    """A name or a record that breaks the contract; the message says how, and escapes untrusted bytes."""
