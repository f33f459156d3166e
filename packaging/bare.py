"""Do what README says on bare Debians: `make bare`, as root, where debootstrap is.

    python3 packaging/bare.py --times 10
    python3 packaging/bare.py --suite trixie --tests tests/ocs

Each time begins with a new copy of Debian's minimal system with ca-certificates, Python, make and git, and a clone of
this repository with the files as they are now. There README's commands are executed from top to bottom. All but the
first, which installs what is needed, are in a network of their own, with nothing but the loopback: later ones need no
other. The systems are kept in `$XDG_CACHE_HOME/g3-recorder` (`~/.cache`).
"""

import argparse
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

_ROOT: Final = Path(__file__).resolve().parent.parent
_SUITES: Final = ("bookworm", "trixie")
_PACKAGES: Final = "ca-certificates,git,make,python3,python3-venv"
_CLONE: Final = "/root/g3-recorder"
_BLOCK: Final = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_COMMAND: Final = re.compile(r"^\$ (.*)$", re.MULTILINE)
_RUNS_ON: Final = re.compile(
    r"(ingest|archiver run|archiver web|python -m testbed\.(kafka|smurf)) ?(?!.*--check-config)"
)
"""Commands that README says to start in a terminal of their own."""
_LOOKS: Final = re.compile(r"archiver (status|files|verify)\b")
"""Commands that may have to be repeated until what they look at is there."""
_BAD: Final = re.compile(r"warning|traceback|\berror\b", re.IGNORECASE)
"""What `make demo` must not print."""
_FILES: Final = ("/etc/hosts", "/etc/pip.conf", "/etc/resolv.conf", "/etc/ssl/certs/ca-certificates.crt")
_VARIABLES: Final = re.compile(
    r"(https?|no)_proxy|PIP_(INDEX_URL|EXTRA_INDEX_URL|TRUSTED_HOST|CERT|DEFAULT_TIMEOUT)|SSL_CERT_FILE|REQUESTS_CA_BUNDLE",
    re.IGNORECASE,
)
"""How this machine reaches the registries of packages, as the bare one must."""
_ENTER: Final = 'mount --rbind /dev "$0/dev" && mount -t proc proc "$0/proc" && {} exec chroot "$0" "$@"'
_FUNCTIONS: Final = f"""\
set -e
cd {_CLONE}
say() {{ printf '+ %s\\n' "$1"; }}
runs_on() {{
    log=/tmp/log$((++started)); say "$1 &"
    bash -c "exec $1" >$log 2>&1 & running="$running $!"
}}
looks() {{
    say "$1"
    for _ in $(seq 300); do
        if printed=$(eval "$1" 2>&1); then printf '%s\\n' "$printed"; return; fi
        sleep 1
    done
    printf '%s\\nnever right: %s\\n' "$printed" "$1"; tail -n 20 /tmp/log*; exit 1
}}
stop() {{
    for pid in $running; do kill "$pid" || {{ echo "one of them has ended"; tail -n 20 /tmp/log*; exit 1; }}; done
    wait
    if grep -l Traceback /tmp/log*; then exit 1; fi
}}
"""


class _BareError(Exception):
    """Something isn't as README says. The message says what."""


def _commands() -> Sequence[str]:
    """Return README's commands."""
    blocks = _BLOCK.findall((_ROOT / "README.md").read_text())
    return [command.partition("  #")[0].strip() for block in blocks for command in _COMMAND.findall(block)]


def _by_hand(commands: Sequence[str]) -> str:
    """Return a shell script that does what README says after the demo."""
    looks = [f"looks {shlex.quote(command)}" for command in commands if _LOOKS.match(command)]
    lines = []
    for command in commands:
        if _RUNS_ON.match(command):
            lines.append(f"runs_on {shlex.quote(command)}")
        elif _LOOKS.match(command):
            lines.append(f"looks {shlex.quote(command)}")
        else:
            lines += [f"say {shlex.quote(command)}", command]
    # And once more with a file.
    return "\n".join([_FUNCTIONS, *lines, "looks 'ls data/*/*/*.g3'", *looks, "stop", ""])


def _system(suite: str) -> Path:
    """Return the directory of that bare system, making it first if it is missing. Raises _BareError."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "g3-recorder"
    home = cache / f"bare-{suite}"
    if not home.exists():
        print(f"making a bare Debian {suite}, once", flush=True)
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".bare-", dir=cache) as scratch:
            system = Path(scratch, "system")
            _run(["debootstrap", "--variant=minbase", f"--include={_PACKAGES}", suite, str(system), _mirror()])
            _run(["chroot", str(system), "apt-get", "clean"])
            system.rename(home)
    return home


def _mirror() -> str:
    """Return where this machine gets Debian's packages."""
    which = ["Created-By: Packages", "Origin: Debian", "Label: Debian"]
    found = _run(["apt-get", "indextargets", "--format", "$(REPO_URI)", *which]).split()
    if not found:
        raise _BareError("apt has no list of Debian's packages: apt-get update")
    return found[0]


def _fill(system: Path) -> None:
    """Give a copy of a system this machine's way to the registries, and a clone."""
    for name in _FILES:
        if Path(name).exists():
            shutil.copyfile(name, system / name[1:])
    reaches = [line for line in _run(["apt-config", "dump"]).splitlines() if line.startswith("Acquire::")]
    (system / "etc/apt/apt.conf.d/99this-machine").write_text("\n".join([*reaches, ""]))
    clone = system / _CLONE[1:]
    _run(["git", "clone", "--quiet", "--no-hardlinks", str(_ROOT), str(clone)])
    for name in _run(
        ["git", "-C", str(_ROOT), "ls-files", "--cached", "--others", "--exclude-standard"]
    ).splitlines():
        (clone / name).parent.mkdir(parents=True, exist_ok=True)
        if (_ROOT / name).exists():
            shutil.copy2(_ROOT / name, clone / name)


def _run(command: Sequence[str]) -> str:
    """Run a command of this machine; return what it printed. Raises _BareError."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        raise _BareError(f"{done.stdout[-2000:]}\n{command[0]} failed")
    return done.stdout


def _there(system: Path, script: str, *, alone: bool) -> str:
    """Run a script in that system, shown; return what it printed. alone: without a network. Raises _BareError."""
    begin_s = time.monotonic()
    own = ["--net"] if alone else []
    enter = _ENTER.format("ip link set lo up &&" if alone else "")
    variables = {name: value for name, value in os.environ.items() if _VARIABLES.fullmatch(name)}
    environment = {"HOME": "/root", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8", **variables}
    printed = []
    with subprocess.Popen(
        [
            *("unshare", "--mount", "--pid", "--fork", "--kill-child", *own, "sh", "-c", enter, str(system)),
            *("/usr/bin/env", "-i", *(f"{name}={value}" for name, value in environment.items())),
            *("bash", "-c", script),
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            printed.append(line)
            print(f"  {line}", end="", flush=True)
    if process.returncode:
        raise _BareError(f"exit code {process.returncode}")
    print(f"({time.monotonic() - begin_s:.0f} s)", flush=True)
    return "".join(printed)


def _once(suite: str, tests: str | None) -> None:
    """Do all that README says in a new system. Raises _BareError."""
    first, *others = _commands()
    with tempfile.TemporaryDirectory(prefix=f"bare-{suite}-") as scratch:
        system = Path(scratch, "system")
        _run(["cp", "--archive", "--reflink=auto", str(_system(suite)), str(system)])
        _fill(system)
        # Twice: the second one makes nothing but the night.
        for alone in (False, True):
            if bad := _BAD.search(_there(system, f"cd {_CLONE} && {first}", alone=alone)):
                raise _BareError(f"{first} printed {bad[0]!r}")
        _there(system, _by_hand(others), alone=True)
        if tests is not None:
            _there(system, f"cd {_CLONE} && make test PYTEST={shlex.quote(tests)}", alone=False)


def _missing() -> Iterator[str]:
    if os.geteuid() != 0:
        yield "be root"
    for program, package in (("debootstrap", "debootstrap"), ("unshare", "util-linux"), ("ip", "iproute2")):
        if shutil.which(program) is None:
            yield f"install {program}: apt-get install {package}"


def main() -> int:
    """Try each suite --times times. Returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--suite", action="append", choices=_SUITES, help="of Debian; may be repeated (default: both)"
    )
    parser.add_argument("--times", type=int, default=1, help="how often on each (default: 1)")
    parser.add_argument("--tests", metavar="PYTEST", help="also run these tests there: make test PYTEST=…")
    options = parser.parse_args()
    if missing := list(_missing()):
        parser.error("; ".join(missing))
    try:
        for number in range(1, options.times + 1):
            for suite in options.suite or _SUITES:
                print(f"\n== {suite}, {number} of {options.times} ==", flush=True)
                _once(suite, options.tests)
    except _BareError as error:
        print(f"failed: {error}", file=sys.stderr)
        return 1
    print(f"\n{options.times} of {options.times} on {' and '.join(options.suite or _SUITES)}: as README says")
    return 0


if __name__ == "__main__":
    sys.exit(main())
