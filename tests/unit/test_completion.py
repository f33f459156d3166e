"""Shell completion: what a real bash offers after Tab."""

import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from archiver.__main__ import COMMANDS

BASH = shutil.which("bash")
pytestmark = pytest.mark.skipif(not BASH, reason="bash isn't installed")
_OFFER = """
source /dev/stdin
COMP_WORDS=("$@"); COMP_CWORD=$(( $# - 1 ))
read -r _ _ _ _ function _ <<< "$(complete -p "$1")"
"$function"
printf '%s\\n' "${COMPREPLY[@]}"
"""


@cache
def script(program: str, shell: str) -> str:
    command = [sys.executable, "-m", program, "--print-completion", shell]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def offered(*words: str, cwd: Path | None = None) -> list[str]:
    """Return what bash offers for the last of these words of a command line."""
    done = subprocess.run(
        [str(BASH), "--norc", "-c", _OFFER, "bash", *words],
        input=script(words[0], "bash"),
        capture_output=True,
        text=True,
        cwd=cwd,
        check=True,
    )
    return sorted(done.stdout.split())


def test_commands_flags_and_choices_are_completed() -> None:
    assert offered("archiver", "sta") == ["status"]
    assert set(offered("archiver", "")) >= {"run", *COMMANDS}
    assert offered("archiver", "files", "--si") == ["--since"]
    assert offered("archiver", "run", "--data") == offered("archiver", "--data") == ["--data-dir"]
    assert offered("archiver", "status", "--data") == [], "a flag of other commands"
    assert offered("archiver", "replay", "--name-format", "") == ["ctime", "date", "session"]
    assert offered("archiver", "files", "--stream", "x", "--since", "-12h", "--js") == ["--json"]
    assert offered("ingest", "--spool-") == ["--spool-dir", "--spool-size"]


def test_files_and_directories_are_completed_where_they_are_meant(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data.toml").touch()
    assert offered("archiver", "run", "--data-dir", "da", cwd=tmp_path) == ["data"]
    assert offered("ingest", "--streams", "da", cwd=tmp_path) == ["data", "data.toml"]
    assert offered("archiver", "adopt", "da", cwd=tmp_path) == ["data", "data.toml"]


@pytest.mark.parametrize("program", ["archiver", "ingest"])
@pytest.mark.parametrize("shell", ["zsh", "tcsh"])
def test_other_shells_get_a_script_of_theirs(program: str, shell: str) -> None:
    beginning = {"zsh": f"#compdef {program}\n", "tcsh": "# AUTOMATICALLY GENERATED"}
    assert script(program, shell).startswith(beginning[shell])
    assert "check-config" in script(program, shell)


def test_the_other_name_of_a_program_is_completed_too(tmp_path: Path) -> None:
    other = tmp_path / "g3-archiver"
    other.write_text("import sys; from archiver.__main__ import main; sys.exit(main())")
    done = subprocess.run(
        [sys.executable, other, "--print-completion", "bash"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.rstrip().endswith(" g3-archiver")


def test_the_script_may_be_cut_off_by_its_reader() -> None:
    command = f"{sys.executable} -m archiver --print-completion zsh | head -1"
    done = subprocess.run([str(BASH), "-c", command], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("#compdef archiver\n", "")
