"""The measurements of docs/understand: their commands run and write results; what they measure isn't judged."""

import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench import __main__ as bench
from bench import wide
from bench.report import results

ROOT = Path(__file__).parents[2]
SECONDS = 170


@pytest.fixture
def results_dir(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """Return the directory into which results are written, instead of bench/results."""
    before = signal.getsignal(signal.SIGTERM)
    for module in (results, wide):
        monkeypatch.setattr(module, "RESULTS", tmp_path)
    yield tmp_path
    signal.signal(signal.SIGTERM, before)


@pytest.mark.slow
def test_make_bench(results_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`make bench` and `python -m bench --only …`."""
    monkeypatch.setattr(bench, "_WARMING_BYTES", 1_000_000)
    assert bench.main(["--only", "ingest", "--sizes", "20kB", "--megabytes", "1", "--repetitions", "1"]) == 0
    (path,) = results_dir.glob("*.json")
    assert {run["who"] for run in json.loads(path.read_text())["runs"]} == {"ours", "bare"}


@pytest.mark.slow
def test_make_bench_long(results_dir: Path) -> None:
    """`make bench-long` and `python -m bench.wide --only …`."""
    assert wide.main(["--only", "streams", "--streams", "2", "--minutes", "0.03"]) == 0
    (path,) = results_dir.glob("wide-*.json")
    assert [run["part"] for run in json.loads(path.read_text())["runs"]] == ["streams"]


@pytest.mark.slow
def test_the_functions_that_a_frame_passes() -> None:
    """`python -m bench.measure.frame_way ingest`."""
    command = [sys.executable, "-m", "bench.measure.frame_way", "ingest"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=SECONDS, check=True)
    assert re.search(r"^\d+ functions of \d+ modules, \d+ calls a frame$", done.stdout, re.MULTILINE)
    assert "ingest.spool.writer.Writer.append" in done.stdout


@pytest.mark.parametrize("page", ["performance.md", "laboratory.md"])
def test_the_parts_that_pages_name_exist(page: str) -> None:
    text = (ROOT / "docs" / "understand" / page).read_text(encoding="utf-8")
    found = re.findall(r"python -m (bench(?:\.wide)?) (--only [^`\n]*)", text)
    found += [("bench", flags) for flags in re.findall(r"BENCH='([^']*)'", text.replace("\n", " "))]
    assert found
    for module, flags in found:
        (wide if module == "bench.wide" else bench).make_parser().parse_args(flags.replace("…", "").split())
