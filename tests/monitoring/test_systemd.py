"""The systemd units: they are valid and restrictive, and the programs accept their settings and record in them."""

import argparse
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

import archiver.__main__
import archiver.commands.quicklook
import archiver.commands.relay
import archiver.commands.web
import ingest.__main__
from testbed.child_process import free_port
from testbed.kafka.broker import Broker
from tests.monitoring import sandbox
from tests.support.processes import Program, RawSender, Recorder, eventually, flow, get, scan

SYSTEMD = Path(__file__).parents[2] / "packaging" / "systemd"
WEB, QUICKLOOK = "archiver-web.service", "archiver-quicklook.service"
RELAY = "archiver-relay@crate1slot2.service"
UNITS = {
    "archiver.service": SYSTEMD / "archiver.service",
    "ingest@crate1slot2.service": SYSTEMD / "ingest@.service",
    WEB: SYSTEMD / WEB,
    QUICKLOOK: SYSTEMD / QUICKLOOK,
    RELAY: SYSTEMD / "archiver-relay@.service",
}
KAFKA = "kafka.service"
MAX_EXPOSURE = 1.5
"""systemd's exposure level, from 0 to 10. A network service has at least 1: less needs a private network."""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A root directory with our units installed as in docs/operate/systemd.md, and the system's own units."""
    if not shutil.which("systemd-analyze"):
        pytest.skip("no systemd-analyze")
    (tmp_path / "etc" / "systemd" / "system").mkdir(parents=True)
    (tmp_path / "usr" / "lib" / "systemd").mkdir(parents=True)
    shutil.copytree("/usr/lib/systemd/system", tmp_path / "usr/lib/systemd/system", symlinks=True)
    for unit in (*UNITS.values(), SYSTEMD / KAFKA):
        shutil.copy(unit, tmp_path / "etc" / "systemd" / "system")
        program = tmp_path / sandbox.settings(unit)["ExecStart"][0].split()[0].lstrip("/")
        program.parent.mkdir(parents=True, exist_ok=True)
        program.touch(0o755)
    return tmp_path


def run(*command: str) -> str:
    """Run a command. Returns its output, or fails with it."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    assert done.returncode == 0, f"{shlex.join(command)}: {done.stdout}"
    return done.stdout


def test_systemd_finds_nothing_wrong(root: Path) -> None:
    assert run("systemd-analyze", "verify", "--man=no", f"--root={root}", *UNITS, KAFKA) == ""


@pytest.mark.parametrize(("example", "unit"), [("data-dir", "archiver.service"), ("spool-dir", "ingest@.service")])
def test_systemd_accepts_the_examples_of_changes(root: Path, example: str, unit: str) -> None:
    changed = root / "etc" / "systemd" / "system" / f"{unit}.d"
    changed.mkdir()
    shutil.copy(SYSTEMD / "examples" / f"{example}.conf", changed)
    assert run("systemd-analyze", "verify", "--man=no", f"--root={root}", *UNITS) == ""


@pytest.mark.parametrize("unit", UNITS)
def test_the_service_is_restricted(root: Path, unit: str) -> None:
    threshold = f"--threshold={MAX_EXPOSURE * 10:.0f}"  # in tenths
    report = run("systemd-analyze", "security", "--no-pager", "--offline=true", f"--root={root}", threshold, unit)
    print(report.splitlines()[-1])


def test_wrong_usage_is_not_started_again_and_again(tmp_path: Path) -> None:
    for unit in UNITS.values():
        configured = sandbox.settings(unit)
        assert (configured["Restart"], configured["RestartPreventExitStatus"]) == (["always"], ["2"])
        # systemd restarts for ever what it can't start for want of a file of settings.
        needed = [path for path in configured["EnvironmentFile"] if not path.startswith("-")]
        assert needed == configured.get("AssertPathExists", [])
    environment = {**os.environ, "ARCHIVER_DATA_DIR": str(tmp_path), "INGEST_STREAM": "x"}
    for name, wrong in (("INGEST_SPOOL_SIZE", "64 loaves"), ("ARCHIVER_TIME_PER_FILE", "ten")):
        program = name.partition("_")[0].lower()
        command = [sys.executable, "-m", program]
        done = subprocess.run(command, env={**environment, name: wrong}, capture_output=True, text=True, check=False)
        assert done.returncode == 2, done.stderr
        assert wrong in done.stderr.splitlines()[-1]


def test_every_instance_in_the_documents_has_its_settings() -> None:
    root = SYSTEMD.parents[1]
    text = "".join(path.read_text() for path in (root / "README.md", *(root / "docs").glob("**/*.md")))
    instances = set(re.findall(r"ingest@(\w+)", text))
    assert len(instances) >= 3
    examples = {path.name for path in (SYSTEMD / "examples").iterdir()}
    assert {f"ingest-{instance}.env" for instance in instances} <= examples
    named = set(re.findall(r"packaging/systemd/([\w./@-]+\.\w+)", text))
    assert len(named) > 5
    assert [name for name in named if not (SYSTEMD / name).exists()] == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files to others")
def test_the_user_and_the_settings_directory_are_made(root: Path) -> None:
    settings = root / "etc" / "g3-recorder"
    run("systemd-sysusers", f"--root={root}", str(SYSTEMD / "g3-recorder.sysusers.conf"))
    user = re.search(r"^g3-recorder:x:(\d+):(\d+):", (root / "etc" / "passwd").read_text(), re.MULTILINE)
    assert user
    for _ in range(2):  # at each boot
        run("systemd-tmpfiles", "--create", f"--root={root}", str(SYSTEMD / "g3-recorder.tmpfiles.conf"))
        assert settings.stat().st_mode & 0o777 == 0o750
        assert settings.stat().st_gid == int(user[2])
        (settings / "kafka.env").touch(0o644)
    assert (settings / "kafka.env").stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("unit", UNITS)
def test_the_program_accepts_the_settings_of_the_unit_and_the_examples(
    unit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_parser = _make_parser(unit)
    configured = sandbox.settings(UNITS[unit])
    monkeypatch.setattr(os, "environ", _environment(configured))
    command = configured["ExecStart"][0]
    program, arguments = make_parser().prog, shlex.split(command.partition(" ")[2])
    assert Path(command).name == program
    options = make_parser().parse_args(arguments[program.count(" ") :])
    # As in the examples: for a Prometheus on another host, but the page and quick look are for this host only.
    assert options.http.host == ("127.0.0.1" if unit in (WEB, QUICKLOOK) else "0.0.0.0")  # noqa: S104
    assert options.bootstrap_servers == "127.0.0.1:9092"
    if unit == WEB:
        assert options.http.port == 8780
        assert options.data_dir is None
        assert options.catalog.parent == Path("/var/lib") / configured["StateDirectory"][0]
        assert "ReadWritePaths" not in configured
    elif unit == QUICKLOOK:
        assert (options.http.port, options.python) == (8781, "/opt/so3g/bin/python")
        assert not {"ReadWritePaths", "StateDirectory"} & configured.keys()
    elif unit == RELAY:
        assert (options.stream, str(options.listen)) == ("crate1slot2", "0.0.0.0:4532")
        assert not {"ReadWritePaths", "StateDirectory"} & configured.keys()
    elif unit == "archiver.service":
        assert options.data_dir == Path(configured["ReadWritePaths"][0]) == Path(configured["RequiresMountsFor"][0])
    else:
        assert options.stream == "crate1slot2"
        assert options.spool_dir == Path("/var/lib") / configured["StateDirectory"][0]
        assert ("retention.ms", "-1") in options.topic_config


def test_the_examples_name_nothing_that_the_programs_dont_know() -> None:
    known = "".join(_make_parser(unit)().format_help() for unit in UNITS)
    for example in SYSTEMD.glob("examples/*"):
        for name in re.findall(r"\b(?:INGEST|ARCHIVER|KAFKA)_\w+(?==)", example.read_text()):
            assert re.search(rf"\b{name}\b", known), f"{example.name}: {name}"


def test_ingest_all_reads_the_streams_of_the_example(monkeypatch: pytest.MonkeyPatch) -> None:
    configured = sandbox.settings(UNITS["ingest@crate1slot2.service"])
    monkeypatch.setattr(os, "environ", _environment(configured, "all"))
    options = ingest.__main__.make_parser().parse_args([])
    assert options.stream is None
    assert options.streams == Path("/etc/g3-recorder/streams.toml")
    streams = tomllib.loads((SYSTEMD / "examples" / "streams.toml").read_text())["stream"]
    assert [each["name"] for each in streams] == ["crate1slot2", "crate1slot3"]


def test_it_records_within_the_sandbox_of_the_units_to_a_broker_as_documented(stream: str, tmp_path: Path) -> None:
    """The broker has the settings of the example, and ingest creates its topic there, as its example says."""
    here = Path(sandbox.__file__)
    probe = [sys.executable, str(here), str(UNITS["archiver.service"]), str(tmp_path), "true"]
    if os.geteuid() != 0 or not shutil.which("systemd-analyze"):
        pytest.skip("restricting a process takes root, and systemd-analyze to list its system call filters")
    tried = subprocess.run(probe, capture_output=True, text=True, check=False)
    if "PermissionError" in tried.stderr:
        pytest.skip(f"this root may not shut a process in: {tried.stderr.splitlines()[-1]}")
    assert tried.returncode == 0, tried.stderr
    with (
        Broker(tmp_path / "kafka", properties=_properties()) as broker,
        Recorder(broker.bootstrap_servers, stream, tmp_path) as recorder,
        RawSender() as sender,
    ):
        data, spool = recorder.data(), tmp_path / "spool"
        data.mkdir()
        spool.mkdir()

        def start(unit: str, writable: Path, *command: str) -> Program:
            return recorder.start(str(here), str(UNITS[unit]), str(writable), sys.executable, "-m", *command)

        recording = start(
            "archiver.service", data, "archiver", "--data-dir", str(data), "--group", stream, "--stream", stream
        )
        source = ["--address", "localhost", "--port", str(sender.port), "--spool-dir", str(spool)]
        example = _environment(sandbox.settings(UNITS["ingest@crate1slot2.service"]))
        for_topic = [f"--topic-config={each}" for each in example["INGEST_TOPIC_CONFIG"].split()]
        assert "INGEST_REPLICATION_FACTOR" not in example
        reading = start("ingest@crate1slot2.service", spool, "ingest", "--stream", stream, *source, *for_topic)
        with sender.accept() as connection:
            connection.sendall(flow(1) + b"".join(map(scan, range(20))) + flow(2))
            eventually(lambda: bool(recorder.files()), "a finished file")
        status = Path(f"/proc/{recording.pid}/status").read_text()
        assert "CapBnd:\t0000000000000000\n" in status
        assert "Seccomp:\t2\n" in status
        state, port = tmp_path / "web", free_port()
        state.mkdir()
        catalog = str(state / "catalog.sqlite")
        shown = start(WEB, state, "archiver", "web", "--http", str(port), "--catalog", catalog, "--group", stream)
        shown.await_line("the page is at")
        (file,) = (str(it.relative_to(data)) for it in recorder.files())
        eventually(lambda: f'"absolute_path":"{data}/{file}"' in get(port, "/files.json")[1], "the page has the file")
        assert get(port, "/healthz") == (200, "ok\n")
        assert Path(catalog).exists()
        assert shown.stop() == 0
        assert reading.stop() == 0
        assert recording.stop() == 0
        assert [path.suffix for path in recorder.files()] == [".g3"]


def _make_parser(unit: str) -> Callable[[], argparse.ArgumentParser]:
    if unit == WEB:
        return archiver.commands.web.make_parser
    if unit == QUICKLOOK:
        return archiver.commands.quicklook.make_parser
    if unit == RELAY:
        return archiver.commands.relay.make_parser
    return archiver.__main__.make_parser if unit == "archiver.service" else ingest.__main__.make_parser


def _properties() -> dict[str, str]:
    """The settings of the example for Kafka that don't name a port or a directory: these are the test's own."""
    lines = (SYSTEMD / "examples" / "server.properties").read_text().splitlines()
    found = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    of_the_test = ("listeners", "advertised.listeners", "log.dirs", "controller.quorum.bootstrap.servers")
    return {name: value for name, value in found.items() if name not in of_the_test}


def _environment(configured: dict[str, list[str]], instance: str = "crate1slot2") -> dict[str, str]:
    """What systemd gives to an instance, with the example files installed."""
    environment: dict[str, str] = {}
    for line in configured.get("Environment", []):
        environment |= dict(each.split("=", 1) for each in shlex.split(line.replace("%S", "/var/lib")))
    for path in configured["EnvironmentFile"]:
        example = SYSTEMD / "examples" / Path(path.replace("%i", instance)).name
        assert example.exists()
        environment |= dict(each.split("=", 1) for each in shlex.split(example.read_text(), comments=True))
    return {name: value.replace("%i", instance) for name, value in environment.items()}
