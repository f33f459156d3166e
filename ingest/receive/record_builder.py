"""From what happens on a connection to the records of the stream: what is said, and in which order.

Pure: no I/O, no clock. Every record that ingest ever publishes is made here, and numbered here.
"""

from typing import NamedTuple

from g3stream.contract.headers import Kind, Label
from ingest.receive.frame_info import RejectedFrame, Said, read_frame


class Entry(NamedTuple):
    """A record to be published. time: ms since the epoch, UTC. value: a large frame's is lent
    (g3stream/frames/decoder.py: Splitter). rejected: it goes to the topic of rejected frames."""

    label: Label
    time: int
    value: bytes | memoryview = b""
    rejected: bool = False


class Reception:
    """Makes one epoch's records.

    epoch: new at every start of ingest (g3stream/contract/producer_epoch.py). prev: the epoch before and the last seq
    it gave out, as the spool remembers them. unclean: the host went down since, without a clean exit of ingest.
    """

    def __init__(self, epoch: str, prev: tuple[str, int] | None, unclean: bool) -> None:
        self._epoch = epoch
        self._prev = prev
        self._unclean = unclean
        self._seq = 0
        self._rejected_seq = 0
        self.bad_ids = 0

    def started(self, now: int) -> Entry:
        """The epoch's first record: whatever was received before has ended."""
        label = Label(Kind.LOST, self._epoch, 0, why="ingest started", prev=self._prev, unclean=self._unclean)
        self._seq = 1
        return Entry(label, now)

    def connected(self, now: int, peer: str) -> Entry:
        """A connection was made."""
        return self._fact(Kind.CONNECTED, now, peer)

    def lost(self, now: int, why: str) -> Entry:
        """The connection was closed, by either side."""
        return self._fact(Kind.LOST, now, why)

    def quiet(self, now: int) -> Entry:
        """Connected, but for another second no data frame came."""
        return self._fact(Kind.QUIET, now, None)

    def received(self, data: bytes | memoryview, now: int) -> Entry | None:
        """A frame came. Gives its record, or None for one that is discarded on receipt (ALIVE, CLEANSE)."""
        try:
            said: Said = read_frame(data)
        except RejectedFrame as reason:
            label = Label(Kind.FRAME, self._epoch, self._rejected_seq, why=str(reason))
            self._rejected_seq += 1
            return Entry(label, now, data, rejected=True)
        self.bad_ids += said.bad_id
        if said.kind is None:
            return None
        label = Label(said.kind, self._epoch, self._seq, said.type, said.id, said.session, said.num)
        self._seq += 1
        return Entry(label, now, data)

    def _fact(self, kind: Kind, now: int, why: str | None) -> Entry:
        label = Label(kind, self._epoch, self._seq, why=why)
        self._seq += 1
        return Entry(label, now)
