"""What ingest tells Prometheus; docs/monitoring.md says what to make of it.

It is read when it is asked for: nothing is counted here.
"""

from pathlib import Path

from ingest.exposition import Exposition
from ingest.stream import StreamStatus


def metrics(status: StreamStatus, spool: Path, now: float) -> bytes:
    """In Prometheus' text format. spool: its directory. now: s since the epoch."""
    shown = Exposition("g3_ingest_").of(stream=status.stream)
    shown.gauge("healthy", "1 if nothing is wrong; /healthz says what is.", not any(status.problems()))
    shown.gauge("connected", "1 if the sender is connected.", status.peer is not None)
    text = "1 if the sender has said START, and not END since."
    shown.gauge("acquiring", text, status.acquiring)
    shown.counter("reconnects", "Connections to the sender after the first.", max(0, status.connections - 1))

    shown.counter("frames", "Data frames received, whole and with a good checksum.", status.frames)
    shown.counter("frame_bytes", "Bytes of the data frames received.", status.bytes)
    if status.last_frame is not None:
        text = "When the last data frame was received."
        shown.gauge("last_frame_timestamp_seconds", text, status.last_frame / 1000)
    text = "Frames that can't be trusted; they went to the topic of rejected frames."
    shown.counter("rejected_frames", text, status.rejected)
    text = "How often reading had to stop, as the spool was full or couldn't be written."
    shown.counter("stalls", text, status.stalls)

    shown.gauge("spool_bytes", "Bytes of records that wait for Kafka.", status.spool_bytes)
    shown.gauge("spool_limit_bytes", "Bytes in the spool at which reading stops.", status.spool_limit)
    oldest = status.spool_oldest if status.spool_bytes else None
    age = max(0.0, now - oldest / 1000) if oldest is not None else 0.0
    shown.gauge("spool_oldest_age_seconds", "Age of the oldest record that waits for Kafka; 0 if none does.", age)
    shown.disk("spool_disk", "the spool", spool)
    text = "Bundles of records in the spool that were given up as damaged."
    shown.counter("spool_unreadable_bundles", text, status.spool_unreadable)

    text = "From a record's receipt until Kafka has acknowledged it."
    shown.latency("publish_latency_seconds", text, status.latency)
    return shown.text()
