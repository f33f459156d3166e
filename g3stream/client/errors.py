"""What can go wrong for a reader of the topics."""


class G3StreamError(Exception):
    """Base of all errors that the client library raises."""


class KafkaUnavailableError(G3StreamError):
    """No broker answers, or it refuses this client; the message says why."""


class KafkaSettingsError(G3StreamError):
    """The settings of the Kafka client are wrong, or its file of properties can't be read."""


class NoSuchStreamError(G3StreamError):
    """The stream has no topic, or its topic was deleted."""


class ForeignRecordError(G3StreamError):
    """A record breaks the contract: something else than ingest has written to the topic.

    offset: of the record. `archiver quarantine` sets it aside: then every reader skips it.
    """

    def __init__(self, message: str, offset: int) -> None:
        super().__init__(message)
        self.offset = offset


class PositionError(G3StreamError):
    """A stored position can't be used: it is damaged, of another stream, or of a topic that was created again."""


class FrameError(G3StreamError):
    """spt3g can't read a frame."""
