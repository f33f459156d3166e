"""Shared kernel of ingest, archiver and every other reader of the topics, and the library for such readers.

Here belong the contract of the topics, the G3 frame format, the settings of Kafka clients, and what every service
needs from its host. Nothing here imports ingest, archiver or the agents, or knows about spools or segment files.

The public names are the client library's (client/, docs/analyse/client.md). They are imported when they are first
used: those who need only the contract, such as the decoder beside so3g, have no Kafka client.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from g3stream.client import *  # noqa: F403 - all of its public names

    __version__: str


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version  # takes longer than all that a program's --help needs

        return version("g3-recorder")
    if not name.startswith("_"):
        client = import_module("g3stream.client")
        if name in client.__all__:
            return getattr(client, name)
    raise AttributeError(f"module 'g3stream' has no attribute {name!r}")
