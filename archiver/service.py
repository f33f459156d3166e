"""The process `archiver`: recording until a signal, its HTTP endpoint and its exit code."""

import argparse
import hashlib
import logging
import os
import re
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext

from confluent_kafka import KafkaException

from archiver.archive.location import Location, located
from archiver.archive.ownership import AnotherArchiveError
from archiver.archive.root import ArchiveRoot
from archiver.console.arguments import carried_types
from archiver.core.events import Event
from archiver.core.segmentation import Settings
from archiver.event_counters import EventCounters
from archiver.followers import Followers
from archiver.kafka.offset_commits import FencedError
from archiver.membership import ClaimedError, Membership
from archiver.reports import ArchiverReports
from g3stream.host.environment import host_name
from g3stream.kafka.client_config import describe_kafka_error, kafka_client_config
from g3stream.kafka.status_publisher import StatusPublisher
from g3stream.log.setup import service_log
from g3stream.log.writer import LogWriter
from g3stream.service.stop_signals import StopSignals

log = logging.getLogger("archiver")


class Archiver:
    """The archiver that options describe: the recording, and the hand-over of the events that it publishes.

    options: those of recording_options and of Kafka's clients, --data-dir, --private-dir, --carry.
    streams: to record; None for all.
    member_id: its name in the consumer group.
    instance_id: its name in the files for SupRsync.
    on_published: called with each event on g3.files, in any thread.
    """

    def __init__(
        self,
        options: argparse.Namespace,
        streams: Sequence[str] | None,
        member_id: str,
        instance_id: str,
        on_published: Callable[[Event], None],
        *,
        md5: bool = False,
    ) -> None:
        location, config = located(options.data_dir, options.private_dir), kafka_client_config(options, {})
        archive = ArchiveRoot(location, options.group, host_name(), md5=md5 or options.suprsync_db is not None)
        self.membership = Membership(
            archive, settings(options), config, member_id, streams, on_published, options.checksums
        )
        self.followers = Followers(options, archive, self.membership.ids, streams, config, instance_id)
        self._reporting = StatusPublisher(config, ArchiverReports(archive, member_id, self.membership.status))

    def run(self) -> None:
        """Record and hand over until `stop`. Raises as Membership.run."""
        with self._reporting, self.followers:
            self.membership.run()

    def stop(self) -> None:
        """Make `run` return. For any thread, at any time."""
        self.membership.stopping.set()
        self.followers.stop()


def settings(options: argparse.Namespace) -> Settings:
    """Return the settings of segmentation, from these options and --carry. Raises ValueError if that is invalid."""
    time_per_file, gap = round(options.time_per_file * 1000), round(options.gap * 1000)
    return Settings(time_per_file, gap, options.name_format, carried_types(options.carry))


def run(options: argparse.Namespace, signals: StopSignals) -> int:
    """Record until SIGTERM or SIGINT, and return the exit code."""
    writer = service_log(options.log_level, options.log_format)
    counters = EventCounters()
    instance_id = options.instance_id or _instance_id(located(options.data_dir, options.private_dir))
    streams = options.stream or None
    archiver = Archiver(options, streams, instance_id, instance_id, counters.on_published, md5=options.md5)
    signals.on_stop(archiver.stop)
    try:
        with _serve_http(options, archiver, counters, writer):
            archiver.run()
        return 0
    except OSError as error:
        text = "the archiver ends, and records wait in Kafka: the data directory %s can't be used: %s"
        log.error(text, options.data_dir.absolute(), error.strerror or error)
    except ClaimedError as error:
        log.error("the archiver ends: %s", error)
    except AnotherArchiveError as error:
        for line in error.lines:
            log.error("%s", line)
    except KafkaException as error:
        log.error("the archiver ends: Kafka: %s", describe_kafka_error(error, options))
    except FencedError as error:
        text = "another archiver with the instance id %s has taken over: %s; this one ends"
        log.error(text, instance_id, error)
    return 1


def _serve_http(
    options: argparse.Namespace, archiver: Archiver, counters: EventCounters, writer: LogWriter
) -> AbstractContextManager[object]:
    """Serve metrics and health, if --http is given."""
    if not options.http:
        return nullcontext()
    # Imported here, so that without --http nothing is imported for it.
    from archiver.metrics import metrics, problems, warnings
    from g3stream.service.http_server import serve_if_possible
    from g3stream.service.timeouts import DiskSpace

    disks, membership, followers = DiskSpace(), archiver.membership, archiver.followers

    def rendered() -> bytes:
        space, handed_over = disks.of(options.data_dir), (followers.status(), followers.suprsync())
        return metrics(membership.status(), counters, writer.status(), space, *handed_over, time.time())

    return serve_if_possible(
        options.http,
        rendered,
        lambda: problems(membership.status(), writer.status(), time.time(), membership.startup_problem()),
        lambda: warnings(followers.status(), followers.suprsync(), time.time()),
    )


def _instance_id(location: Location) -> str:
    """Return an id that is the same at every start on this host for this archive.

    With a private directory of its own, the data directory may be moved.
    """
    host = re.sub(r"[^A-Za-z0-9._-]", "-", host_name())[:150]
    return f"{host}-{hashlib.sha256(os.fsencode(location.private_dir or location.data_dir)).hexdigest()[:8]}"
