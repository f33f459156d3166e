"""Kafka's MirrorMaker 2, which copies the streams of one Kafka cluster to another, for tests and development.

It is the real MirrorMaker from Maven Central, fetched into the user's cache (36 MB) at its first use. It runs on the
same Java as the broker of `testbed.kafka`.

    with Mirror(Path("/tmp/mirror"), "localhost:9092", "localhost:9093") as mirror:
        ...

or `python -m testbed.kafka.mirror_maker` in a separate terminal. For production, see docs/operate/second-site.md.
"""

import argparse
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from g3stream.service.arguments import key_value
from testbed.exit_on_signal import exit_on_signal
from testbed.kafka.broker import LOG4J
from testbed.kafka.distribution import KAFKA_VERSION, MIRROR_MAKER, installation
from testbed.server import Server, ServerError

SITE, HOME = "site", "home"
"""The names of the source and the target cluster in its settings."""

_START_TIMEOUT_SECONDS = 90.0
"""It ends by itself, and logs the reason, when the target has not answered for 60 s."""
_STARTED_LINE = "Started MirrorSourceConnector with"
_JVM_FLAGS = ("-Xmx256m",)

_LOG4J = f"""\
{LOG4J}logger.mirror.name=org.apache.kafka.connect.mirror
logger.mirror.level=info
"""

_PROPERTIES: Mapping[str, str] = {
    "clusters": f"{SITE}, {HOME}",
    f"{SITE}->{HOME}.enabled": "true",
    f"{SITE}->{HOME}.topics": r"g3\.frames\..*",
    # The default excludes topics that end in .replica, which a stream's name may do.
    "topics.exclude": "__.*",
    "replication.policy.class": "org.apache.kafka.connect.mirror.IdentityReplicationPolicy",
    # Copy only the topic settings that the contract requires; each cluster decides on its own retention.
    "config.properties.exclude": r"(?!cleanup\.policy$|message\.timestamp\.|max\.message\.bytes$).*",
    # No consumer group moves between the clusters, so offsets and heartbeats needn't be synchronized.
    "emit.offset-syncs.enabled": "false",
    "emit.checkpoints.enabled": "false",
    "emit.heartbeats.enabled": "false",
    "heartbeats.replication.enabled": "false",
    "sync.group.offsets.enabled": "false",
    "sync.topic.acls.enabled": "false",
    # One broker: one replica of everything, and no more partitions of internal topics than needed.
    "replication.factor": "1",
    "heartbeats.topic.replication.factor": "1",
    "config.storage.replication.factor": "1",
    "offset.storage.replication.factor": "1",
    "offset.storage.partitions": "1",
    "status.storage.replication.factor": "1",
    "status.storage.partitions": "1",
    # A developer sees a new stream at once (default: 10 minutes); a killed mirror continues after 6 s (10 s).
    "refresh.topics.interval.seconds": "1",
    f"{HOME}.session.timeout.ms": "6000",
    f"{HOME}.heartbeat.interval.ms": "1000",
    # Find plugins by name; with a scan of every jar for them it takes twice as long to start.
    "plugin.discovery": "service_load",
    f"{HOME}.plugin.discovery": "service_load",
}


class MirrorMaker(Server):
    """One MirrorMaker, which can be stopped, killed, and started again, and then resumes where it was.

    directory: for its settings and `mirror.log`; made if missing. Its position is stored in the target cluster.
    source, target: `bootstrap.servers` of the clusters, which its settings call `site` and `home`.
    properties: settings of MirrorMaker that add to, or replace, those in this module.
    When started again after a kill, it copies again what it had not yet stored as copied.
    """

    def __init__(
        self, directory: Path, source: str, target: str, properties: Mapping[str, str] | None = None
    ) -> None:
        super().__init__("the mirror", directory.absolute() / "mirror.log")
        self._directory = directory.absolute()
        self._properties = {
            **_PROPERTIES,
            f"{SITE}.bootstrap.servers": source,
            f"{HOME}.bootstrap.servers": target,
            **(properties or {}),
        }

    def start(self) -> None:
        """Start it and return when it copies, and watches for new streams. Raises ServerError."""
        if self.pid is not None:
            raise ServerError(f"the mirror in {self._directory} is running already")
        program = installation(MIRROR_MAKER)
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            log4j = self._directory / "log4j2.properties"
            log4j.write_text(_LOG4J)
            flags = (*_JVM_FLAGS, f"-Dlog4j2.configurationFile={log4j}")
            command = program.command(
                "org.apache.kafka.connect.mirror.MirrorMaker", str(self._write_settings()), flags=flags
            )
        except OSError as error:
            raise ServerError(f"can't start a mirror in {self._directory}: {error}") from error
        self._start_process(command, lambda: self._has_logged(_STARTED_LINE), _START_TIMEOUT_SECONDS)

    def _write_settings(self) -> Path:
        path = self._directory / "mm2.properties"
        path.touch(mode=0o600)  # there may be passwords in it
        # In a Java properties file a backslash escapes.
        path.write_text("".join(f"{key}={value}\n".replace("\\", "\\\\") for key, value in self._properties.items()))
        return path


def make_parser() -> argparse.ArgumentParser:
    """The command line of `python -m testbed.kafka.mirror_maker`."""
    parser = argparse.ArgumentParser(
        prog="python -m testbed.kafka.mirror_maker",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="""\
Copy the streams (g3.frames.*) of one Kafka cluster to another with Kafka's own
MirrorMaker 2, in the foreground, for development: what a home institution does
to have its own archive. New streams are copied as they appear. The first run
fetches MirrorMaker (36 MB); later ones need no network.""",
        epilog="""\
A second archive on a laptop, each line in its own terminal:
  python -m testbed.kafka --port 9092              (the site's broker)
  python -m testbed.kafka --port 9093              (the home institution's)
  python -m testbed.kafka.mirror_maker --from localhost:9092 --to localhost:9093
  python -m testbed.smurf --port 50000 --loop
  ingest --stream crate1slot2 --port 50000 --bootstrap-servers localhost:9092
  archiver --data-dir ./site --bootstrap-servers localhost:9092
  archiver --data-dir ./home --bootstrap-servers localhost:9093
Stop the archivers: then `diff -r -x .archiver site home` prints nothing. See
docs/operate/second-site.md for details and the settings for production.""",
    )
    parser.add_argument("--from", dest="source", required=True, metavar="HOST:PORT", help="the cluster to read")
    parser.add_argument("--to", dest="target", required=True, metavar="HOST:PORT", help="the cluster to write")
    parser.add_argument(
        "--property",
        type=key_value,
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="a setting of MirrorMaker, which knows the clusters as `site` and `home`, e.g. "
        "home.producer.compression.type=zstd; may be repeated",
    )
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a mirror until SIGINT or SIGTERM. Exit code 0, or 1 if it didn't start or ended by itself."""
    parser = make_parser()
    options = parser.parse_args(arguments)
    exit_on_signal(with_signal_code=False)
    with tempfile.TemporaryDirectory(prefix="mirror-") as scratch:
        mirror = MirrorMaker(Path(scratch), options.source, options.target, dict(options.property))
        try:
            mirror.start()
            print(
                f"MirrorMaker {KAFKA_VERSION} copies g3.frames.* from {options.source} to {options.target}; "
                f"its log is {mirror.log}; Ctrl-C stops it",
                flush=True,
            )
            code = mirror.wait()
            text = mirror.log.read_text(errors="replace")[-3000:]
            print(f"MirrorMaker ended by itself, exit code {code}; its log:\n{text}", file=sys.stderr)
        except ServerError as error:
            print(f"error: {error}", file=sys.stderr)
        finally:
            mirror.stop()
    return 1


if __name__ == "__main__":
    sys.exit(main())
