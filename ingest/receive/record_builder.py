"""Makes the records of a stream from its frames and from what happens on its connection, and numbers them.

Pure: no I/O, no clock. Every record that ingest publishes is made here.
"""

from typing import NamedTuple

from g3stream.contract.headers import ALIVE, Kind, RecordHeaders
from ingest.receive.frame_info import FrameInfo, RejectedFrame, read_frame_info


class PendingRecord(NamedTuple):
    """A record to be published."""

    headers: RecordHeaders
    time_ms: int
    """When it was received, ms since the epoch, UTC."""
    value: bytes | memoryview = b""
    """The frame; that of a large one is a borrowed view (FrameDecoder in g3stream/frame_format/decoder.py)."""
    rejected: bool = False
    """Whether it goes to the topic of rejected frames."""


class RecordBuilder:
    """Makes the records of one producer epoch.

    epoch: new at every start of ingest (g3stream/contract/producer_epoch.py). prev: the previous epoch and its last
    seq, from the spool. unclean: whether the host was rebooted since, without a clean shutdown of ingest.
    """

    def __init__(self, epoch: str, prev: tuple[str, int] | None, unclean: bool) -> None:
        self._epoch = epoch
        self._prev = prev
        self._unclean = unclean
        self._seq = 0
        self._rejected_seq = 0
        self._is_alive = False
        """Whether the sender has sent ALIVE, or CLEANSE, since the last record of the connection."""
        self.bad_ids = 0
        """Frames with a sostream_id that is no valid stream name."""

    def connection_record(self, kind: Kind, now_ms: int, why: str | None = None) -> PendingRecord:
        """Make the record of a connection (CONNECTED), its end (LOST), or a second without a data frame (QUIET).

        The epoch's first record is a LOST: it ends what was received before, and names it. A QUIET says why=alive if
        the sender has said so meanwhile: a relay repeats that, as readers with a timeout rely on it.
        """
        if kind is Kind.QUIET and self._is_alive:
            why = ALIVE
        self._is_alive = False
        headers = RecordHeaders(kind, self._epoch, self._seq, why=why, prev=self._prev, unclean=self._unclean)
        self._seq, self._prev, self._unclean = self._seq + 1, None, False
        return PendingRecord(headers, now_ms)

    def received(self, data: bytes | memoryview, now_ms: int) -> PendingRecord | None:
        """Make the record of a frame. Returns None for a frame that is discarded on receipt (ALIVE, CLEANSE)."""
        try:
            info: FrameInfo = read_frame_info(data)
        except RejectedFrame as reason:
            headers = RecordHeaders(Kind.FRAME, self._epoch, self._rejected_seq, why=str(reason))
            self._rejected_seq += 1
            return PendingRecord(headers, now_ms, data, rejected=True)
        self.bad_ids += info.bad_id
        if info.kind is None:
            self._is_alive = True
            return None
        headers = RecordHeaders(info.kind, self._epoch, self._seq, info.type, info.id, info.session, info.num)
        self._seq += 1
        return PendingRecord(headers, now_ms, data)
