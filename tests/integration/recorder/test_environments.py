"""Each program in environments that aren't what it may expect: it works, or says in a line why it doesn't."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from archiver.__main__ import COMMANDS

NOWHERE = "127.0.0.1:1"
NOBODY = 54321
"""A user that has no line in /etc/passwd, and no home directory."""


def run(
    arguments: Sequence[str], env: Mapping[str, str] | None = None, before: str = "", after: str = ""
) -> subprocess.CompletedProcess[bytes]:
    """Run it by a shell, with what is to stand before and after it, and no environment but this."""
    done = subprocess.run(
        ["/bin/sh", "-c", f'{before} exec "$@" {after}', "sh", *arguments],
        env={"PATH": os.environ["PATH"], "KAFKA_BOOTSTRAP_SERVERS": NOWHERE, **(env or {})},
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert b"Traceback" not in done.stderr, done.stderr.decode(errors="replace")
    assert done.returncode >= 0, f"it was ended by a signal, {-done.returncode}"
    return done


def program(*arguments: str) -> list[str]:
    return [sys.executable, "-m", *arguments]


HELPS = (
    ("ingest",),
    ("archiver",),
    *(("archiver", command) for command in COMMANDS),
)


@pytest.mark.slow
@pytest.mark.parametrize("which", HELPS, ids=" ".join)
@pytest.mark.parametrize(
    ("env", "encoding"),
    [
        ({"PYTHONIOENCODING": "ascii"}, "ascii"),
        ({"PYTHONIOENCODING": "latin-1"}, "latin-1"),
        ({"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}, "ascii"),
        ({"COLUMNS": "1"}, "utf-8"),
        ({"COLUMNS": "-5", "TERM": "none", "TZ": "Nowhere/Else", "TMPDIR": "/nowhere", "LC_ALL": "xx_YY"}, "utf-8"),
    ],
    ids=["ascii", "latin-1", "C locale", "narrow", "all of it wrong"],
)
def test_help_on_any_terminal(which: tuple[str, ...], env: dict[str, str], encoding: str) -> None:
    done = run(program(*which, "--help"), env)
    assert done.returncode == 0
    assert done.stdout.decode(encoding).startswith(f"usage: {' '.join(which)}")


@pytest.mark.parametrize("which", [*((*which, "--help") for which in HELPS), ("ingest", "--version")], ids=" ".join)
def test_help_that_cannot_be_written_is_an_error(which: tuple[str, ...]) -> None:
    done = run(program(*which), after=">/dev/full")
    assert done.returncode == 1
    assert done.stderr == f"{' '.join(which[:-1])}: error: can't print: No space left on device\n".encode()


@pytest.mark.parametrize("which", [("archiver",), *(("archiver", name) for name in ("replay", "verify", "repair"))])
def test_a_directory_below_one_that_is_gone_is_wrong_usage(tmp_path: Path, which: tuple[str, ...]) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    here = {"PYTHONPATH": str(Path(__file__).parents[3])}
    done = run(program(*which, "--data-dir", "data"), here, before=f"cd {gone}; rmdir {gone};")
    assert done.returncode == 2
    assert b"data: the current directory has been deleted" in done.stderr.splitlines()[-1]


@pytest.mark.parametrize("which", [("ingest", "--stream", "x"), ("archiver",), ("archiver", "files")], ids=" ".join)
def test_too_few_open_files_are_said(tmp_path: Path, which: tuple[str, ...]) -> None:
    where = {"INGEST_SPOOL_DIR": str(tmp_path), "INGEST_PORT": "1", "ARCHIVER_DATA_DIR": str(tmp_path)}
    done = run(program(*which), where, before="ulimit -n 12;")
    assert done.returncode == 1
    assert b"error: fewer than 64 files may be open" in done.stderr.splitlines()[-1]


@pytest.mark.parametrize("which", [("ingest", "--stream", "x"), ("archiver",), ("archiver", "files")], ids=" ".join)
def test_a_setting_that_is_no_number_is_told_without_its_value(tmp_path: Path, which: tuple[str, ...]) -> None:
    settings = tmp_path / "client.properties"
    settings.write_text("socket.timeout.ms=hunter2\n")
    where = {"INGEST_SPOOL_DIR": str(tmp_path), "INGEST_PORT": "1", "ARCHIVER_DATA_DIR": str(tmp_path)}
    done = run(program(*which, "--kafka-config", str(settings)), where)
    assert done.returncode == 1
    assert b'Invalid value for configuration property "socket.timeout.ms"' in done.stderr
    assert b"hunter2" not in done.stderr


def test_no_stdout_is_an_error_of_a_command_that_prints() -> None:
    done = run(program("archiver", "files"), after=">&-")
    assert done.returncode == 1
    assert done.stderr == b"archiver files: error: stdout is closed: the result can't be printed\n"


@pytest.mark.parametrize("host", ["foo..bar", "x" * 64, "."])
def test_a_host_that_cannot_be_one_is_wrong_usage(tmp_path: Path, host: str) -> None:
    spool = ("ingest", "--stream", "x", "--spool-dir", str(tmp_path))
    for flags in (("--address", host), ("--listen", f"{host}:5000"), ("--http", f"{host}:5000")):
        done = run(program(*spool, *flags))
        assert done.returncode == 2
        assert b"is not a host name" in done.stderr.splitlines()[-1]


def test_a_spool_that_is_too_small_is_wrong_usage(tmp_path: Path) -> None:
    """Not an error of the moment, for which systemd would start it again and again."""
    done = run(program("ingest", "--stream", "x", "--spool-dir", str(tmp_path), "--spool-size", "5"))
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == b"ingest: error: argument --spool-size: must be at least 1MiB"


_CALL = """
import sys, time, threading, os, signal, importlib, socket
socket.gethostname = lambda: "caf\\udce9\\n"
def stop():
    time.sleep(2)
    os.kill(os.getpid(), signal.SIGTERM)
try:
    threading.Thread(target=stop, daemon=True).start()
except RuntimeError:
    pass  # too few are allowed
sys.exit(importlib.import_module(sys.argv[1] + ".__main__").main(sys.argv[2:]))
"""


def test_a_host_name_that_is_no_text(tmp_path: Path) -> None:
    done = run([sys.executable, "-c", _CALL, "archiver", "--data-dir", str(tmp_path)])
    assert done.returncode == 0, done.stderr
    assert run([sys.executable, "-c", _CALL, "archiver", "close", "--help"]).returncode == 0


@pytest.mark.skipif(os.getuid() != 0, reason="only root may be another user")
def test_a_user_without_a_home_directory() -> None:
    before = f'set -- setpriv --reuid={NOBODY} --clear-groups "$@";'
    done = run(program("ingest", "--stream", "x"), before=before)
    assert done.returncode == 2
    assert b"the following arguments are required: --spool-dir" in done.stderr


@pytest.mark.slow
@pytest.mark.skipif(os.getuid() != 0, reason="only root may be another user, and root's threads aren't counted")
@pytest.mark.parametrize("which", ["ingest", "archiver"])
@pytest.mark.parametrize("threads", [*range(2, 24, 3), 34, 36, 40])
def test_too_few_threads_are_said_and_no_crash(which: str, threads: int) -> None:
    with tempfile.TemporaryDirectory() as directory:  # not tmp_path, which is root's alone
        Path(directory).chmod(0o777)
        _too_few_threads(Path(directory), which, threads)


def _too_few_threads(directory: Path, which: str, threads: int) -> None:
    arguments = {
        "ingest": ("--stream", "x", "--spool-dir", str(directory / "spool")),
        "archiver": ("--data-dir", str(directory / "data")),
    }[which]
    limited = f'set -- setpriv --reuid={NOBODY + threads} --clear-groups prlimit --nproc={threads} "$@";'
    done = run([sys.executable, "-c", _CALL, which, *arguments], before=limited)
    if done.returncode:
        assert done.returncode == 1
        assert b"can't be started; allow more: pids.max" in done.stderr.splitlines()[-1]
