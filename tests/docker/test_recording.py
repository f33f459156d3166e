"""`docker compose --profile sim up --build` records, reports its health, and loses nothing if a container dies."""

import json
import time
from bisect import bisect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

import pytest
from spt3g import core

from testbed.demo.comparison import FrameId, RecordedFrame, compare, mismatched_checksums
from tests.docker.containers import BROKER, Site, base_images, docker, eventually, left_behind, missing, run, sent
from tests.support.processes import get

pytestmark = [
    pytest.mark.skipif(missing(*base_images()) is not None, reason=str(missing(*base_images()))),
    pytest.mark.timeout(600),  # the first build installs all packages of the image
]

STREAMS = ("crate1slot2", "crate1slot3")
INGESTS = tuple(f"ingest-{stream}" for stream in STREAMS)
OURS = (*INGESTS, "archiver")
WEB = "web"
_CHECK = "healthcheck: {interval: 2s, timeout: 5s, retries: 2}"
RATE = 20
_SIMULATOR = f"python -m testbed.smurf --loop --seconds 5 --rate {RATE} --bytes 20000 --pause 1 --stream-id"
# Shorter sessions, files and intervals of health checks than by default.
OVERRIDE = "\n".join(
    [
        "services:",
        *(f"  simulator-{stream}: {{command: {_SIMULATOR} {stream}}}" for stream in STREAMS),
        *(f"  {service}: {{{_CHECK}}}" for service in (*INGESTS, WEB)),
        f"  archiver: {{environment: {{ARCHIVER_TIME_PER_FILE: 3}}, {_CHECK}}}",
        f"  kafka: {{environment: {{{BROKER}}}, healthcheck: {{interval: 2s}}}}",
    ]
)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The running recorder and its simulated streams; each test but the last leaves them running."""
    with Site(tmp_path_factory.mktemp("site"), OVERRIDE) as running:
        running.up()
        yield running


def test_it_records_to_a_data_directory_that_wasnt_there(site: Site) -> None:
    """A directory that Docker made as root becomes the archiver's; the files belong to the configured user."""
    for stream in STREAMS:
        eventually(lambda stream=stream: len(site.files(stream)) >= 2, lambda: "two files")  # type: ignore[misc]  # mypy can't infer a lambda with a default
    owner, group = (int(site.settings[name]) for name in ("RECORDER_UID", "RECORDER_GID"))
    for path in (site.data, *site.data.rglob("*")):
        found = path.stat()
        assert (found.st_uid, found.st_gid) == (owner, group), path
    before = len(site.files(STREAMS[0]))
    eventually(lambda: len(site.files(STREAMS[0])) > before, lambda: "another file")
    assert not [name for path in site.data.glob("*/*") for name in mismatched_checksums(path)]


def test_its_operator_tries_the_settings_and_looks_at_it(site: Site) -> None:
    """By the commands of docs/operate/containers.md."""
    simulator = f"--address simulator-{STREAMS[0]} --port 50000"
    for service, command in (
        (INGESTS[0], f"ingest --stream {STREAMS[0]} {simulator}"),
        ("archiver", "archiver run"),
    ):
        tried = site.compose("run", "--rm", service, *command.split(), "--check-config")
        assert "1 broker answers" in tried
    for look in (
        "ps",
        "logs --since 1h archiver",
        "exec archiver archiver info",
        "exec archiver archiver files --since -12h",
        "exec archiver archiver verify --data-dir /data",
    ):
        site.compose(*look.split())
    # Its exit code says whether all is well, which may not be so yet.
    assert STREAMS[0] in run("docker", "exec", site.container("archiver"), "archiver", "status", check=False).stdout


def test_no_container_has_more_rights_than_it_needs(site: Site) -> None:
    for service in (*OURS, WEB):
        found = docker(
            *("inspect", site.container(service), "--format"),
            "{{.Config.User}} {{.HostConfig.ReadonlyRootfs}} {{.HostConfig.CapDrop}} {{.HostConfig.SecurityOpt}}",
        ).split()
        user = f"{site.settings['RECORDER_UID']}:{site.settings['RECORDER_GID']}"
        assert found == [user, "true", "[ALL]", "[no-new-privileges]"], service
        # The kernel's view of its first process: no capabilities, and none can be gained.
        status = docker("exec", site.container(service), "cat", "/proc/1/status")
        assert {"CapEff:\t0000000000000000", "CapBnd:\t0000000000000000", "NoNewPrivs:\t1"} <= {*status.splitlines()}


def test_the_page_shows_what_is_recorded(site: Site) -> None:
    """On the port of the host; with what there is to know of the files, which it can't read."""
    site.await_health(WEB, "healthy", "^ok$")
    port = int(site.settings["WEB_PORT"])
    path = str(site.files(STREAMS[0])[0].relative_to(site.data))
    eventually(lambda: get(port, f"/file/{path}")[0] == 200, lambda: get(port, "/files")[1])
    assert f"archiver:/data/{path}" in get(port, f"/file/{path}")[1]
    assert [stream["stream"] for stream in json.loads(get(port, "/now.json")[1])["streams"]] == [*STREAMS]
    mounts = docker("exec", site.container(WEB), "sh", "-c", "ls / /catalog").split()
    assert "catalog.sqlite" in mounts
    assert "data" not in mounts


def test_health_says_what_is_missing(site: Site) -> None:
    """`docker inspect` has the reason."""
    ingest = INGESTS[0]
    site.await_health(ingest, "healthy", "^ok$")
    docker("stop", site.container(f"simulator-{STREAMS[0]}"))
    assert site.await_health(ingest, "unhealthy", "no connection to simulator-crate1slot2:50000")
    assert site.health(INGESTS[1])[0] == "healthy"
    site.start(f"simulator-{STREAMS[0]}")
    site.await_health(ingest, "healthy")


def test_nothing_is_lost_to_the_death_of_any_container(site: Site) -> None:
    """Each is killed while frames are received, then all at once; all that was read is recorded once.

    Only what a simulator sent while its ingest was dead isn't read, and so isn't recorded.
    """
    begun = int(time.time())
    dead: dict[str, list[_Outage]] = {stream: [] for stream in STREAMS}

    def await_connection(ingest: str, killed: float) -> None:
        eventually(lambda: bool(_connections(site, ingest, killed)), lambda: f"{ingest}: {site.log(ingest)}")
        dead[ingest.removeprefix("ingest-")].append(_Outage(killed, _connections(site, ingest, killed)[0]))

    for service in ("kafka", *OURS):
        killed = time.time()
        site.kill(service)
        assert not site.state(service)["Running"], "Docker has restarted what its operator killed"
        if service == "kafka":
            for waiting in (*OURS, WEB):
                site.await_health(waiting, "unhealthy", "Kafka")
        site.start(service)
        if service in INGESTS:
            await_connection(service, killed)
        else:
            for running in ("kafka", *OURS):
                site.await_health(running, "healthy")
    killed = time.time()
    site.crash("kafka", *OURS)
    for ingest in INGESTS:
        await_connection(ingest, killed)
    for service in ("kafka", *OURS, WEB):
        site.await_health(service, "healthy")

    assert len(dead[STREAMS[0]]) == 2
    for stream in STREAMS:
        # What a simulator sent before a reader was connected isn't lost by the recorder.
        sessions = {number: last for number, last in site.await_whole_session(stream).items() if number > begun}
        assert len(sessions) > 3
        last = max(FrameId(*item) for item in sessions.items())
        eventually(lambda stream=stream, last=last: last in _recorded(site, stream)[1], lambda: "the last frame")  # type: ignore[misc]  # mypy can't infer a lambda with defaults
        frames, times = _recorded(site, stream)
        # A stopped simulator hasn't printed what it sent in its last session.
        comparison = compare(sent(sessions), [frame for frame in frames if frame.id and frame.id.session in sessions])
        assert comparison.recorded > 100
        assert not comparison.duplicates
        assert not comparison.unknown
        lost = comparison.lost
        unexplained = _unexplained(lost, times, dead[stream])
        assert not unexplained, (
            f"{stream}: lost {lost[0]} to {lost[-1]}, not while ingest was dead ({dead[stream]}): "
            f"{unexplained[0]} to {unexplained[-1]}\n{site.log(f'ingest-{stream}')}"
        )
        print(f"{stream}: {comparison.sent} sent, {comparison.recorded} recorded, {len(lost)} to a dead ingest")
    assert not [name for path in site.data.glob("*/*") for name in mismatched_checksums(path)]
    assert not [line for service in OURS for line in site.log(service).splitlines() if "LOST" in line]


@dataclass(frozen=True, slots=True)
class _Outage:
    """A period in which an ingest was dead, s since the epoch."""

    begin: float
    end: float


def _connections(site: Site, ingest: str, since: float) -> list[float]:
    """Return the times of an ingest's connections after `since`, from its log."""
    lines = [json.loads(line) for line in site.log(ingest).splitlines()]
    times = [datetime.fromisoformat(line["time"]) for line in lines if ": connected to" in line["message"]]
    return [at for time in times if (at := time.timestamp()) > since]


def _recorded(site: Site, stream: str) -> tuple[list[RecordedFrame], dict[FrameId, float]]:
    """Return all frames in a stream's files, and when each was sent, s since the epoch."""
    frames, times = [], {}
    for path in site.files(stream):
        for frame in core.G3File(str(path)):
            frame_id = FrameId(frame["session_id"], frame["frame_num"])
            frames.append(RecordedFrame(frame.type == core.G3FrameType.Scan, frame_id))
            times[frame_id] = frame["time"].time / core.G3Units.s
    return frames, times


def _unexplained(lost: tuple[FrameId, ...], recorded: Mapping[FrameId, float], dead: list[_Outage]) -> list[FrameId]:
    """Return the lost frames that weren't sent while an ingest was dead.

    The earliest time of sending follows from the session id and frame_num, and from the frame before it.
    """
    known = sorted(recorded)
    found = []
    for one in lost:
        sent_at = one.session + max(0, one.num - 2) / RATE
        before = known[bisect(known, one) - 1]
        after = recorded[before] if before.session == one.session else sent_at + 1.0
        if not any(outage.begin - 0.5 <= after and sent_at <= outage.end + 1.0 for outage in dead):
            found.append(one)
    return found


def test_at_last_it_stops_in_order_and_leaves_nothing_behind(site: Site) -> None:
    site.compose("--profile", "sim", "stop")  # it kills what takes too long, as the exit code shows
    for service in (*OURS, WEB):
        assert (site.state(service)["ExitCode"], site.state(service)["OOMKilled"]) == (0, False), service
        assert "Traceback" not in site.log(service)
    site.down()
    assert not [*left_behind(site.name)]
