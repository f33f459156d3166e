"""From what happens on a connection to the records of the stream: what is said, and in which order.

Pure: no I/O, no clock. Every record that ingest ever publishes is made here, and numbered here.
"""

from typing import NamedTuple

from g3stream.contract.headers import Kind, RecordHeaders
from ingest.receive.frame_info import FrameInfo, RejectedFrame, read_frame_info


class PendingRecord(NamedTuple):
    """A record to be published. time_ms: ms since the epoch, UTC. value: a large frame's is lent
    (g3stream/frames/decoder.py: Splitter). rejected: it goes to the topic of rejected frames."""

    headers: RecordHeaders
    time_ms: int
    value: bytes | memoryview = b""
    rejected: bool = False


class RecordBuilder:
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

    def started(self, now_ms: int) -> PendingRecord:
        """The epoch's first record: whatever was received before has ended."""
        headers = RecordHeaders(
            Kind.LOST, self._epoch, 0, why="ingest started", prev=self._prev, unclean=self._unclean
        )
        self._seq = 1
        return PendingRecord(headers, now_ms)

    def connected(self, now_ms: int, peer: str) -> PendingRecord:
        """A connection was made."""
        return self._connection_record(Kind.CONNECTED, now_ms, peer)

    def disconnected(self, now_ms: int, why: str) -> PendingRecord:
        """The connection was closed, by either side."""
        return self._connection_record(Kind.LOST, now_ms, why)

    def heartbeat(self, now_ms: int) -> PendingRecord:
        """Connected, but for another second no data frame came."""
        return self._connection_record(Kind.QUIET, now_ms, None)

    def received(self, data: bytes | memoryview, now_ms: int) -> PendingRecord | None:
        """A frame came. Gives its record, or None for one that is discarded on receipt (ALIVE, CLEANSE)."""
        try:
            info: FrameInfo = read_frame_info(data)
        except RejectedFrame as reason:
            headers = RecordHeaders(Kind.FRAME, self._epoch, self._rejected_seq, why=str(reason))
            self._rejected_seq += 1
            return PendingRecord(headers, now_ms, data, rejected=True)
        self.bad_ids += info.bad_id
        if info.kind is None:
            return None
        headers = RecordHeaders(info.kind, self._epoch, self._seq, info.type, info.id, info.session, info.num)
        self._seq += 1
        return PendingRecord(headers, now_ms, data)

    def _connection_record(self, kind: Kind, now_ms: int, why: str | None) -> PendingRecord:
        headers = RecordHeaders(kind, self._epoch, self._seq, why=why)
        self._seq += 1
        return PendingRecord(headers, now_ms)
