"""The reports on g3.status, read on from where the last call ended.

Which archivers a group has is known from these, and not from Kafka's list of the group's members: to request that
while Kafka is down can abort the process (librdkafka 2.16, its pull request 5397: an assertion in
rd_kafka_enq_once_del_source_return, for any admin request to a coordinator).
"""

from archiver.kafka.topic_reader import TopicReader
from g3stream.contract.program_status import Report, decode
from g3stream.contract.topics import STATUS_TOPIC, ContractError


class ReportLog:
    """Reads g3.status. reader: for the thread that calls it."""

    def __init__(self, reader: TopicReader) -> None:
        self._reader = reader
        self._next_offset = 0
        self.last: dict[bytes, Report] = {}
        """The last report of each program, by the key of its messages."""

    def read_new(self) -> list[Report]:
        """Return the reports since the last call, at first all that the topic has; none if there is no such topic.

        Those of a later version, or foreign ones, are left out. Raises KafkaException.
        """
        found = []
        with self._reader.consumer() as consumer:
            first, end = self._reader.existing_offset_range(consumer, STATUS_TOPIC)
            if end < self._next_offset:  # it was deleted, and created again
                self._next_offset = 0
                self.last.clear()
            unread = {(STATUS_TOPIC, 0): (max(first, self._next_offset), end)}
            for batch in self._reader.read_ranges(consumer, unread, may_be_deleted=True):
                for message in batch:
                    self._next_offset = (message.offset() or 0) + 1
                    try:
                        report = decode(message.value() or b"")
                    except ContractError:
                        continue
                    self.last[message.key() or b""] = report
                    found.append(report)
        return found
