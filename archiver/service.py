"""The process `archiver`: recording until a signal, its HTTP endpoint and its exit code."""

import argparse
import hashlib
import logging
import os
import re
import time
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from confluent_kafka import KafkaException

from archiver.archive.location import Location, located
from archiver.archive.ownership import AnotherArchiveError
from archiver.archive.root import ArchiveRoot
from archiver.core.segmentation import Settings
from archiver.event_counters import EventCounters
from archiver.followers import Followers, sinks_of, suprsync_of
from archiver.kafka.offset_commits import FencedError
from archiver.membership import ClaimedError, Membership
from g3stream.host.environment import host_name
from g3stream.kafka.client_config import describe_kafka_error, kafka_client_config
from g3stream.service.endpoint import ListenError
from g3stream.service.log_writer import LogWriter
from g3stream.service.logs import service_log
from g3stream.service.stop_signals import StopSignals

log = logging.getLogger("archiver")


def run(options: argparse.Namespace, signals: StopSignals) -> int:
    """Record until SIGTERM or SIGINT, and return the exit code."""
    time_per_file, gap = round(options.time_per_file * 1000), round(options.gap * 1000)
    settings = Settings(time_per_file, gap, options.name_format, options.carry)
    writer = service_log(options.log_level, options.log_format)
    root: Path = options.data_dir.absolute()
    counters = EventCounters()
    location = located(options.data_dir, options.private_dir)
    instance_id = options.instance_id or _instance_id(location)
    md5 = options.md5 or options.suprsync_db is not None
    archive = ArchiveRoot(location, options.group, host_name(), md5=md5)
    streams = options.stream or None
    config = kafka_client_config(options, {})
    membership = Membership(archive, settings, config, instance_id, streams, counters.on_published, options.checksums)
    suprsync = suprsync_of(options, archive, streams, config, instance_id)
    followers = Followers(config, location, options.group, membership.ids, sinks_of(options, root), suprsync)

    def stop() -> None:
        membership.stopping.set()
        followers.stop()

    signals.on_stop(stop)
    try:
        with followers, _http(options, membership, followers, counters, writer):
            membership.run()
    except OSError as error:
        log.error("the data directory %s can't be used: %s", root, error.strerror or error)
        return 1
    except ClaimedError as error:
        log.error("%s", error)
        return 1
    except AnotherArchiveError as error:
        for line in error.lines:
            log.error("%s", line)
        return 1
    except KafkaException as error:
        log.error("Kafka: %s", describe_kafka_error(error, options))
        return 1
    except FencedError as error:
        log.error("another archiver with the instance id %s has taken over: %s", instance_id, error)
        return 1
    return 0


def _http(
    options: argparse.Namespace,
    membership: Membership,
    followers: Followers,
    counters: EventCounters,
    writer: LogWriter,
) -> AbstractContextManager[object]:
    """Serve metrics and health, if --http is given. Recording continues if that fails."""
    if not options.http:
        return nullcontext()
    # Imported here, so that without --http nothing is imported for it.
    from archiver.metrics import metrics, problems, warnings
    from g3stream.service.disk_space import DiskSpace
    from g3stream.service.http_server import HttpServer

    disks = DiskSpace()

    def shown() -> bytes:
        space = disks.of(options.data_dir)
        handed_over = followers.status(), followers.suprsync()
        return metrics(membership.status(), counters, writer.status(), space, *handed_over, time.time())

    try:
        return HttpServer(
            options.http,
            shown,
            lambda: problems(membership.status(), writer.status(), time.time(), membership.startup_problem()),
            lambda: warnings(followers.status(), followers.suprsync(), time.time()),
        )
    except ListenError as error:
        log.error("%s; recording continues without --http", error)
        return nullcontext()


def _instance_id(location: Location) -> str:
    """Return an id that is the same at every start on this host for this archive.

    With a private directory of its own, the data directory may be moved.
    """
    host = re.sub(r"[^A-Za-z0-9._-]", "-", host_name())[:150]
    return f"{host}-{hashlib.sha256(os.fsencode(location.private_dir or location.data_dir)).hexdigest()[:8]}"
