"""The catalog on a real Kafka: it follows g3.files beside other writers, kills, damage and outages."""

import csv
import io
import json
import os
import secrets
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import msgspec
import pytest
from confluent_kafka import KafkaException, Producer
from confluent_kafka.cimpl import NewTopic
from msgspec.structs import replace

from archiver.catalog import queries, update
from archiver.catalog.catalog_file import open_to_read
from archiver.catalog.update import CatalogUpdater
from archiver.core.catalog import FileCatalog
from archiver.core.events import Event
from archiver.core.paths import CATALOG
from archiver.core.segmentation import CloseReason
from archiver.kafka.topic_reader import TopicReader
from g3stream.contract.topic_settings import EXPECTED_FILES_TOPIC
from g3stream.contract.topics import FILES_TOPIC
from g3stream.kafka.topic_admin import TopicAdmin
from testbed.child_process import free_port
from testbed.kafka.broker import Broker
from tests.support.processes import SECONDS, admin_client, eventually, run_archiver
from tests.unit.archiver.core.test_catalog import SALVAGED, finished, lost, retired

EVENTS: list[Event] = [
    finished(0),
    finished(1, why=CloseReason.END, missing=2),
    lost(20, finished(1).first.time + 5),
    finished(2, why=CloseReason.LOST),
    SALVAGED,
    retired(finished(2)),
]


class Published:
    """Events of a group of its own on g3.files."""

    def __init__(self, servers: str) -> None:
        self.servers = servers
        self.group = f"catalog-{secrets.token_hex(4)}"
        self.reader = TopicReader({"bootstrap.servers": servers}, self.group)
        self._producer = Producer({"bootstrap.servers": servers})

    def publish(self, *events: Event) -> None:
        for event in events:
            event = replace(event, group=self.group)
            self._producer.produce(FILES_TOPIC, msgspec.json.encode(event), event.key.encode(), partition=0)
        assert self._producer.flush(SECONDS) == 0

    def files(self, *arguments: str, servers: str | None = None) -> "subprocess.CompletedProcess[str]":
        return run_archiver(servers or self.servers, "files", "--group", self.group, *arguments)

    def catalog(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        return run_archiver(self.servers, "catalog", "--group", self.group, *arguments)


@pytest.fixture
def published(kafka: str) -> Published:
    # Else the broker would create it, with its own settings: a problem of every archive that other tests look at.
    TopicAdmin({"bootstrap.servers": kafka}).ensure(EXPECTED_FILES_TOPIC)
    made = Published(kafka)
    made.publish(*EVENTS)
    return made


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data directory with an archive's private directory."""
    (tmp_path / "data" / ".archiver").mkdir(parents=True)
    return tmp_path / "data"


def catalog_in(data: Path) -> Path:
    return data / ".archiver" / CATALOG


def content(path: Path) -> dict[str, list[tuple[object, ...]]]:
    """All rows of a catalog, and its position."""
    with closing(open_to_read(path)) as connection:
        tables = ("file", "loss", "retirement", "unreadable")
        found = {table: _rows(connection, table) for table in tables}
        found["position"] = connection.execute("SELECT next_offset, event_key FROM meta").fetchall()
        return found


def _rows(connection: sqlite3.Connection, table: str) -> list[tuple[object, ...]]:
    return connection.execute(f"SELECT * FROM {table} ORDER BY 1").fetchall()  # noqa: S608 - our own names


def test_files_lists_the_same_with_and_without_a_catalog(published: Published, data: Path) -> None:
    plain = published.files("--json")
    assert (plain.returncode, plain.stderr) == (0, "")
    with_catalog = published.files("--json", "--data-dir", str(data))
    assert with_catalog.stdout == plain.stdout.replace('"15463/', f'"{data}/15463/')
    assert catalog_in(data).is_file()
    assert published.files("--catalog", str(catalog_in(data))).stdout == published.files().stdout

    paths = [file["path"] for line in plain.stdout.splitlines() for file in json.loads(line).get("files", [])]
    assert paths == [finished(n).path for n in range(3)]
    done = published.files("--data-dir", str(data), "--format", "csv", "--where", "missing > 0 or kind = 'salvaged'")
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert [(row["path"], row["missing"], row["lost_records"]) for row in rows] == [
        (str(data / paths[1]), "2", "3"), (str(data / SALVAGED.path), "0", "0"),
    ]  # fmt: skip
    night = published.files("--json", "--night", "2019-01-01", "--catalog", str(catalog_in(data)))
    assert night.stdout == plain.stdout
    assert published.files("--json", "--night", "2018-12-31", "--catalog", str(catalog_in(data))).stdout == ""
    wrong = published.files("--where", "nonsense")
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert "no such column: nonsense; the columns are path, kind, stream" in wrong.stderr


def test_what_is_published_later_is_added(published: Published, data: Path) -> None:
    path = catalog_in(data)
    assert "4 files, 1 loss, " in published.catalog("--data-dir", str(data)).stdout
    later: Sequence[Event] = [finished(3, why=CloseReason.GAP), finished(1, why=CloseReason.END, host="again")]
    published.publish(*later)
    assert "5 files, 1 loss, " in published.catalog("--data-dir", str(data)).stdout
    added = content(path)
    assert "5 files, 1 loss, " in published.catalog("--data-dir", str(data), "--rebuild").stdout
    assert content(path)["file"] == added["file"]
    expected = FileCatalog.from_events([*EVENTS, *later])
    with closing(open_to_read(path)) as connection:
        assert {path for (path,) in connection.execute("SELECT path FROM files")} == set(expected.file_events())
        assert connection.execute("SELECT host FROM file WHERE number = 2").fetchall() == [("again",)]


def test_it_is_followed_until_it_is_stopped(published: Published, data: Path) -> None:
    # A program that a shell started in the background, as these tests may be, ignores Ctrl-C unless it is reset.
    command = ["env", "--default-signal=INT", sys.executable, "-m", "archiver", "catalog", "--follow"]
    command += ["--data-dir", str(data)]
    command += ["--group", published.group, "--bootstrap-servers", published.servers]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as follower:
        assert follower.stdout
        assert "4 files" in follower.stdout.readline()
        published.publish(finished(3))
        assert "5 files" in follower.stdout.readline()
        follower.send_signal(signal.SIGINT)
        assert follower.wait(SECONDS) == 130


def test_several_writers_at_once_make_the_same(
    published: Published, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In transactions of a few events, so that they meet often."""
    monkeypatch.setattr(update, "_TRANSACTION", 7)

    def write(_: int) -> None:
        with CatalogUpdater(published.reader, catalog_in(data)) as updater:
            updater.update()

    with ThreadPoolExecutor(4) as writers:
        list(writers.map(write, range(4)))  # all of them make it
        published.publish(*(finished(number, why=CloseReason.END) for number in range(3, 400)))
        list(writers.map(write, range(4)))
    alone = data / "alone.sqlite"
    with CatalogUpdater(published.reader, alone) as updater:
        updater.update()
    assert content(catalog_in(data))["file"] == content(alone)["file"]
    assert len(content(alone)["file"]) == 401


WRITER = """
import sys
from pathlib import Path
from archiver.catalog import update
from archiver.kafka.topic_reader import TopicReader
update._TRANSACTION = 5
print("begins", flush=True)
servers, group, path = sys.argv[1:]
reader = TopicReader({"bootstrap.servers": servers}, group)
progress = lambda done, total, size: print(done, flush=True)
with update.CatalogUpdater(reader, Path(path), progress=progress) as updater:
    updater.update()
"""


def test_a_writer_that_is_killed_leaves_whole_transactions(published: Published, data: Path) -> None:
    command = [sys.executable, "-c", WRITER, published.servers, published.group, str(catalog_in(data))]
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    published.publish(*(finished(number, why=CloseReason.END) for number in range(3, 400)))
    for stop_after in (2, 9, 30):
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
            assert writer.stdout
            for _ in range(stop_after):
                writer.stdout.readline()
            writer.kill()
    with CatalogUpdater(published.reader, catalog_in(data), pytest.fail) as updater:
        updater.update()
    with closing(sqlite3.connect(catalog_in(data))) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert connection.execute("SELECT count(*) FROM file").fetchone() == (401,)


def test_a_damaged_one_is_made_again_and_the_answer_is_right(published: Published, data: Path) -> None:
    before = published.files("--json", "--data-dir", str(data))
    damaged = bytearray(catalog_in(data).read_bytes())
    damaged[8192:] = os.urandom(len(damaged) - 8192)
    catalog_in(data).write_bytes(damaged)
    again = published.files("--json", "--data-dir", str(data))
    assert (again.returncode, again.stdout) == (0, before.stdout)
    assert "is made again from g3.files: it was damaged" in again.stderr
    assert published.files("--json", "--data-dir", str(data)).stderr == ""


def test_damage_that_a_query_finds_is_repaired_at_the_next_update(published: Published, data: Path) -> None:
    notices: list[str] = []
    with CatalogUpdater(published.reader, catalog_in(data), notices.append) as updater:
        updater.update()
        error = sqlite3.DatabaseError("database disk image is malformed")
        error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
        with pytest.raises(sqlite3.DatabaseError), updater.reading():
            raise error
        updater.update()
        with updater.reading() as connection:
            assert queries.counts(connection) == (4, 1)
    assert [notice for notice in notices if "it was damaged" in notice] == notices
    assert len(notices) == 1


@pytest.mark.parametrize("precious", ["notes\n" * 1000, None])
def test_another_programs_file_is_left_alone(published: Published, data: Path, precious: str | None) -> None:
    other = data / "precious"
    if precious:
        other.write_text(precious)
    else:
        with closing(sqlite3.connect(other)) as connection:
            connection.execute("CREATE TABLE precious (value)")
    before = other.read_bytes()
    for done in (
        published.files("--catalog", str(other)),
        published.catalog("--catalog", str(other)),
        published.catalog("--catalog", str(other), "--rebuild"),
    ):
        assert (done.returncode, done.stdout) == (2, "")
        assert "is left alone" in done.stderr
    assert other.read_bytes() == before


def test_of_another_group_it_is_refused(published: Published, data: Path) -> None:
    published.catalog("--data-dir", str(data))
    before = content(catalog_in(data))
    done = run_archiver(published.servers, "files", "--group", "another", "--data-dir", str(data))
    assert done.returncode == 2
    assert f"is the catalog of the group {published.group}, not of another" in done.stderr
    assert content(catalog_in(data)) == before


def test_without_the_right_to_write_a_copy_is_brought_up_to_date(
    published: Published, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite opens the file read-only here, as root could write any file."""
    published.catalog("--data-dir", str(data))
    published.publish(finished(3))
    before = catalog_in(data).read_bytes()
    connect = sqlite3.connect

    def read_only(database: str, **how: object) -> sqlite3.Connection:
        return connect(str(database).replace("mode=rwc", "mode=ro"), **how)  # type: ignore[call-overload, no-any-return]  # as it is called

    monkeypatch.setattr(sqlite3, "connect", read_only)
    with CatalogUpdater(published.reader, catalog_in(data)) as updater:
        updater.update()
        assert updater.not_writable
        with updater.reading() as connection:
            assert queries.counts(connection) == (5, 1)
        published.publish(finished(4))
        updater.update()
        with updater.reading() as connection:
            assert queries.counts(connection) == (6, 1)
    assert catalog_in(data).read_bytes() == before


def test_while_kafka_is_away_files_answers_from_what_is_known(published: Published, data: Path) -> None:
    nowhere = f"127.0.0.1:{free_port()}"
    known = published.files("--data-dir", str(data))
    away = published.files("--data-dir", str(data), servers=nowhere)
    assert (away.returncode, away.stdout) == (0, known.stdout)
    assert "Kafka can't be read" in away.stderr
    assert "this is what was known at 20" in away.stderr


@pytest.fixture(scope="module")
def own_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A broker whose g3.files may be deleted."""
    with Broker(tmp_path_factory.mktemp("broker")) as broker:
        yield broker.bootstrap_servers


def create_topic(servers: str) -> None:
    topic, admin = NewTopic(FILES_TOPIC, 1, 1, config={"retention.ms": "-1"}), admin_client(servers)

    def created() -> bool:
        try:
            admin.create_topics([topic])[FILES_TOPIC].result(SECONDS)
        except KafkaException:  # it is still being deleted
            return False
        return True

    eventually(created, "g3.files exists")


@pytest.mark.slow
def test_when_g3_files_is_created_again_so_is_the_catalog(own_broker: str, tmp_path: Path) -> None:
    """With fewer events than before, with as many, and with more: that is what distinguishes them by offset alone."""
    archive, notices, path = Published(own_broker), list[str](), tmp_path / "catalog.sqlite"
    admin = admin_client(own_broker)
    create_topic(own_broker)
    archive.publish(*(finished(number) for number in range(3)))
    with CatalogUpdater(archive.reader, path, notices.append) as updater:
        assert updater.update() == 3
        for nth, count in enumerate((1, 1, 4)):
            noticed = len(notices)
            admin.delete_topics([FILES_TOPIC])[FILES_TOPIC].result(SECONDS)
            create_topic(own_broker)
            archive.publish(*(finished(number, host=f"h{nth}") for number in range(count)))
            with CatalogUpdater(archive.reader, path, notices.append) as another:
                another.update()
            updater.update()
            with updater.reading() as connection:
                assert queries.counts(connection) == (count, 0)
                assert {host for (host,) in connection.execute("SELECT host FROM file")} == {f"h{nth}"}
            assert len(notices) > noticed
    assert all("g3.files was deleted and created again" in notice for notice in notices)
