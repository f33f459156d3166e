"""What the sinks of `--on-file`, for a command and for a URL, have in common."""

from archiver.core.events import Event, FileAdopted
from archiver.handover.on_file import SINK


class OnFileSink:
    """The name of both sinks, and which events they want."""

    name = SINK

    def wants(self, event: Event) -> bool:
        """As Sink's. Not adopted files: they were there, and handed over or not, before the archive recorded them."""
        return not isinstance(event, FileAdopted)
