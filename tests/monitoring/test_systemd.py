"""The systemd units: they are valid and restrictive, and the programs accept their settings and record in them."""

import argparse
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import archiver.__main__
import ingest.__main__
from tests.monitoring import sandbox
from tests.support.processes import Program, RawSender, Recorder, eventually, flow, scan

SYSTEMD = Path(__file__).parents[2] / "packaging" / "systemd"
UNITS = {"archiver.service": SYSTEMD / "archiver.service", "ingest@crate1slot2.service": SYSTEMD / "ingest@.service"}
MAX_EXPOSURE = 1.5
"""systemd's exposure level, from 0 to 10. A network service has at least 1: less needs a private network."""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A root directory with our units installed as in docs/services.md, and the system's own units."""
    if not shutil.which("systemd-analyze"):
        pytest.skip("no systemd-analyze")
    (tmp_path / "etc" / "systemd" / "system").mkdir(parents=True)
    (tmp_path / "usr" / "lib" / "systemd").mkdir(parents=True)
    shutil.copytree("/usr/lib/systemd/system", tmp_path / "usr/lib/systemd/system", symlinks=True)
    for unit in UNITS.values():
        shutil.copy(unit, tmp_path / "etc" / "systemd" / "system")
        program = tmp_path / sandbox.settings(unit)["ExecStart"][0].lstrip("/")
        program.parent.mkdir(parents=True, exist_ok=True)
        program.touch(0o755)
    return tmp_path


def run(*command: str) -> str:
    """Run a command. Returns its output, or fails with it."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    assert done.returncode == 0, f"{shlex.join(command)}: {done.stdout}"
    return done.stdout


def test_systemd_finds_nothing_wrong(root: Path) -> None:
    assert run("systemd-analyze", "verify", "--man=no", f"--root={root}", *UNITS) == ""


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
    program, *arguments = shlex.split(configured["ExecStart"][0])
    assert Path(program).name == make_parser().prog
    options = make_parser().parse_args(arguments)
    assert options.http.host == "0.0.0.0"  # noqa: S104 - as in the example, for a Prometheus on another host
    assert options.bootstrap_servers == "kafka1.example.org:9092,kafka2.example.org:9092"
    if unit == "archiver.service":
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


def test_it_records_within_the_sandbox_of_the_units(kafka: str, stream: str, tmp_path: Path) -> None:
    here = Path(sandbox.__file__)
    probe = [sys.executable, str(here), str(UNITS["archiver.service"]), str(tmp_path), "true"]
    if os.geteuid() != 0 or not shutil.which("systemd-analyze"):
        pytest.skip("restricting a process takes root, and systemd-analyze to list its system call filters")
    tried = subprocess.run(probe, capture_output=True, text=True, check=False)
    if "PermissionError" in tried.stderr:
        pytest.skip(f"this root may not shut a process in: {tried.stderr.splitlines()[-1]}")
    assert tried.returncode == 0, tried.stderr
    with Recorder(kafka, stream, tmp_path) as recorder, RawSender() as sender:
        recorder.create_topic()
        data, spool = recorder.data(), tmp_path / "spool"
        data.mkdir()
        spool.mkdir()

        def start(unit: str, writable: Path, *command: str) -> Program:
            return recorder.start(str(here), str(UNITS[unit]), str(writable), sys.executable, "-m", *command)

        recording = start(
            "archiver.service", data, "archiver", "--data-dir", str(data), "--group", stream, "--stream", stream
        )
        source = ["--address", "localhost", "--port", str(sender.port), "--spool-dir", str(spool)]
        reading = start("ingest@crate1slot2.service", spool, "ingest", "--stream", stream, *source)
        with sender.accept() as connection:
            connection.sendall(flow(1) + b"".join(map(scan, range(20))) + flow(2))
            eventually(lambda: bool(recorder.files()), "a finished file")
        status = Path(f"/proc/{recording.pid}/status").read_text()
        assert "CapBnd:\t0000000000000000\n" in status
        assert "Seccomp:\t2\n" in status
        assert reading.stop() == 0
        assert recording.stop() == 0
        assert [path.suffix for path in recorder.files()] == [".g3"]


def _make_parser(unit: str) -> Callable[[], argparse.ArgumentParser]:
    return archiver.__main__.make_parser if unit == "archiver.service" else ingest.__main__.make_parser


def _environment(configured: dict[str, list[str]]) -> dict[str, str]:
    """What systemd gives to the instance crate1slot2, with the example files installed."""
    environment: dict[str, str] = {}
    for line in configured["Environment"]:
        environment |= dict(each.split("=", 1) for each in shlex.split(line.replace("%S", "/var/lib")))
    for path in configured["EnvironmentFile"]:
        example = SYSTEMD / "examples" / Path(path.replace("%i", "crate1slot2")).name
        assert example.exists()
        environment |= dict(each.split("=", 1) for each in shlex.split(example.read_text(), comments=True))
    return {name: value.replace("%i", "crate1slot2") for name, value in environment.items()}
