"""--check-config: the settings in effect, and whether what they name works."""

import os
import subprocess
import sys
from pathlib import Path

from testbed.child_process import free_port
from tests.support.processes import SECONDS, RawSender, Recorder
from tests.support.terminal import on_terminal, plain_lines


def run(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *arguments, "--check-config"],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )


def test_all_that_ingest_needs_is_there_and_where_a_setting_comes_from(recorder: Recorder, tmp_path: Path) -> None:
    with RawSender() as sender:
        arguments = ("--stream", recorder.stream, "--port", str(sender.port), "--spool-dir", str(tmp_path / "spool"))
        done = run("ingest", *arguments, KAFKA_BOOTSTRAP_SERVERS=recorder.servers, INGEST_TIMEOUT="2m")
    assert (done.returncode, done.stderr) == (0, "")
    settings = {line.split()[0]: line.split()[1:] for line in done.stdout.splitlines() if line.startswith("--")}
    assert settings["--timeout"] == ["120.0", "INGEST_TIMEOUT"]
    assert settings["--port"] == [str(sender.port), "given"]
    assert settings["--spool-size"][1] == "default"
    assert done.stdout.count("ok  ") == 3
    assert ": 1 broker answers" in done.stdout
    assert not (tmp_path / "spool").exists()


def test_each_thing_that_does_not_work_is_named(tmp_path: Path) -> None:
    nowhere = f"127.0.0.1:{free_port()}"
    in_the_way = tmp_path / "file"
    in_the_way.touch()
    done = run("ingest", "--stream", "x", "--port", str(free_port()), "--bootstrap-servers", nowhere)
    assert done.returncode == 1
    assert f"FAILED  Kafka at {nowhere}: " in done.stdout
    assert "FAILED  the sender of x, localhost:" in done.stdout
    done = run("archiver", "run", "--data-dir", str(in_the_way), "--bootstrap-servers", nowhere)
    assert done.returncode == 1
    assert f"FAILED  the data directory {in_the_way}: nothing can be written in {in_the_way}: " in done.stdout


def test_each_stream_of_a_file_has_its_settings_and_its_sender(recorder: Recorder, tmp_path: Path) -> None:
    name = recorder.stream
    with RawSender() as sender:
        (tmp_path / "streams.toml").write_text(
            f'[[stream]]\nname = "{name}"\nport = {sender.port}\ntimeout = 30\n'
            f'[[stream]]\nname = "{name}-b"\nlisten = {sender.port}\n'
        )
        arguments = ("--streams", f"{tmp_path}/streams.toml", "--spool-dir", f"{tmp_path}/spool", "--timeout", "7")
        done = run("ingest", *arguments, "--http", str(sender.port), KAFKA_BOOTSTRAP_SERVERS=recorder.servers)
    shown = " ".join(done.stdout.split())
    assert f" {name}: localhost:{sender.port}, timeout=30 " in shown
    assert f" {name}-b: *:{sender.port}, timeout=7 " in shown
    assert f"ok      the sender of {name}, localhost:{sender.port}: it accepts connections\n" in done.stdout
    assert f"FAILED  the sender of {name}-b, *:{sender.port}: can't listen on" in done.stdout
    assert f"FAILED  --http 127.0.0.1:{sender.port}: can't listen on" in done.stdout
    assert (done.returncode, done.stderr) == (1, "")


def test_what_else_an_archiver_is_given_is_tried_and_shown_as_typed(tmp_path: Path) -> None:
    private = "/proc/private"
    arguments = ("--data-dir", str(tmp_path), "--private-dir", private, "--on-file", "no-such-program '{path} x'")
    done = run("archiver", *arguments, "--bootstrap-servers", f"127.0.0.1:{free_port()}")
    assert f"FAILED  the private directory {private}: nothing can be written in /proc: " in done.stdout
    assert "FAILED  --on-file no-such-program: no such program" in done.stdout
    assert "--on-file               no-such-program '{path} x' given\n" in done.stdout
    assert f"ok      the data directory {tmp_path}: " in done.stdout
    assert (done.returncode, done.stderr) == (1, "")


def test_it_fits_a_terminal_of_80_columns() -> None:
    command = ["archiver", "--data-dir", "/data", "--bootstrap-servers", f"127.0.0.1:{free_port()}", "--check-config"]
    code, text = on_terminal(command, env={"ARCHIVER_SUPRSYNC_ARCHIVE_NAME": "x" * 40})
    assert code == 1
    assert max(map(len, plain_lines(text))) <= 80
    assert any(line.startswith("FAILED  Kafka at ") for line in plain_lines(text))


def test_its_reader_may_leave_and_a_full_disk_is_reported() -> None:
    command = f"{sys.executable} -m archiver --data-dir /data --bootstrap-servers 127.0.0.1:1 --check-config"
    done = subprocess.run(f"{command} | head -1", shell=True, capture_output=True, text=True, check=False)  # noqa: S602 - a pipe
    assert (done.stdout.split()[0], done.stderr) == ("--data-dir", "")
    done = subprocess.run(f"{command} >/dev/full", shell=True, capture_output=True, text=True, check=False)  # noqa: S602
    assert (done.returncode, done.stderr) == (1, "archiver: error: can't print: No space left on device\n")
