"""Commands that pages show and that can't be executed beside each other here: which test executes each."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """Commands that a test elsewhere executes.

    command: a regular expression for a whole command, in one line, or for a program's first line. test:
    `path::function`, or `path` for all of its tests, or `Makefile::target` for what CI runs. words: what must stand
    in that file's source. page: only on this page, or on all.
    """

    command: str
    test: str
    words: Sequence[str]
    page: str = ""


_SYSTEMD: Final = "docs/operate/systemd.md"
_CONTAINERS: Final = "docs/operate/containers.md"
_OBSERVATORY: Final = "docs/operate/simons-observatory.md"
_RECORDING: Final = "tests/docker/test_recording.py"
_PRODUCTION: Final = "tests/docker/test_production.py"
_IMAGE: Final = "tests/docker/test_image.py"
_OBSERVATIONS: Final = "tests/sotodlib/test_observations.py"

TABLE: Final[Sequence[Elsewhere]] = (
    Elsewhere(r"make demo", "tests/integration/testbed/test_demo.py", ["testbed.demo"]),
    Elsewhere(r"\. \.venv/bin/activate", "Makefile::bare", ["packaging/bare.py"]),
    Elsewhere(
        r"archiver run .*--kafka-config /etc/g3/client.properties --check-config",
        "tests/faults/kafka/test_secure_kafka.py::test_check_config_names_a_wrong_password_and_shows_none",
        ["--kafka-config", "--check-config"],
    ),
    Elsewhere(r"pip install '\.\[ocs\]'", "Makefile::.venv/.ready", ["$(INSTALL) demo,ocs,"]),
    Elsewhere(
        r"from ocs\.ocs_client import OCSClient",
        "tests/ocs/test_smurf_recorder.py",
        ["client.record.start()", '["last_files"]', "client.record.stop()"],
        page="docs/reference/agents/smurf_recorder.rst",
    ),
    Elsewhere(r"make bench( BENCH=.*)?", "tests/integration/test_bench.py::test_make_bench", ["make bench"]),
    Elsewhere(r"make bench-long", "tests/integration/test_bench.py::test_make_bench_long", ["make bench-long"]),
    Elsewhere(
        r"python -m bench\.wide --only .*",
        "tests/integration/test_bench.py::test_the_parts_that_pages_name_exist",
        ["bench.wide --only"],
    ),
    Elsewhere(
        r"python -m bench\.measure\.frame_way ingest",
        "tests/integration/test_bench.py::test_the_functions_that_a_frame_passes",
        ["bench.measure.frame_way"],
    ),
    Elsewhere(
        r"(FAULTS=all )?python -m pytest \S*test_cluster\.py -s.*", "tests/faults/kafka/test_cluster.py", ["session"]
    ),
    Elsewhere(
        r"python -m pytest \S*test_archiver_killed\.py -k twice",
        "tests/faults/archiver/test_archiver_killed.py::test_killed_twice_the_files_are_the_same",
        ["twice"],
    ),
    Elsewhere(
        r"promtool check rules .*",
        "tests/monitoring/test_alerts.py::test_prometheus_takes_its_settings",
        ['"check", "rules"'],
    ),
    Elsewhere(r"promtool test rules .*", "tests/monitoring/test_alerts.py", ['"test", "rules"']),
    Elsewhere(r"archiver quicklook", "tests/integration/archiver/test_quicklook.py", ["quicklook"]),
    Elsewhere(
        r"from spt3g import core",
        "tests/unit/archiver/relay/test_server.py::test_spt3g_reads_the_frames",
        ["tcp://"],
        page="docs/operate/relay.md",
    ),
    Elsewhere(
        r"\$acls .*",
        "tests/faults/kafka/test_least_rights.py",
        ["as in docs/operate/kafka-rights.md"],
        page="docs/operate/kafka-rights.md",
    ),
    # No systemd runs here as process 1. The units are installed in a root directory of the test's own, and checked by
    # systemd; users and directories are made there; the programs record with the units' settings and restrictions.
    Elsewhere(
        r"(install|cp|ln|echo|make|systemd-sysusers|systemd-tmpfiles|runuser|apt-get|tar)\b.*",
        "tests/monitoring/test_systemd.py::test_the_user_and_the_settings_directory_are_made",
        ["installed as in docs/operate/systemd.md", "systemd-sysusers", "systemd-tmpfiles"],
        page=_SYSTEMD,
    ),
    Elsewhere(
        r"systemctl .*",
        "tests/monitoring/test_systemd.py::test_it_records_within_the_sandbox_of_the_units_to_a_broker_as_documented",
        ["ExecStart"],
        page=_SYSTEMD,
    ),
    Elsewhere(
        r"(try=|\$try ).*",
        "tests/monitoring/test_systemd.py::test_the_program_accepts_the_settings_of_the_unit_and_the_examples",
        ["EnvironmentFile"],
        page=_SYSTEMD,
    ),
    Elsewhere(
        r"(python3 -m venv|\S+/pip install|cd /opt) ?.*",
        "Makefile::dist",
        ["packaging/distribution.py"],
        page=_SYSTEMD,
    ),
    Elsewhere(
        r"for name in ingest archiver; .*",
        "tests/unit/test_completion.py::test_other_shells_get_a_script_of_theirs",
        ["--print-completion"],
        page=_SYSTEMD,
    ),
    # Two brokers, a mirror, and two archives, whose files that test compares.
    Elsewhere(
        r"python -m testbed\.(kafka|smurf).*|archiver run .*|ingest .*|diff .*",
        "tests/integration/recorder/test_second_archive.py",
        ["mirror_maker"],
        page="docs/operate/second-site.md",
    ),
    # Containers need a Docker daemon. The tests' project has names, ports and directories of its own.
    Elsewhere(
        r"docker compose -f \S+/compose\.yaml -f \S+/compose\.production\.yaml up .*",
        f"{_PRODUCTION}::test_a_broker_dies_in_the_middle_and_nothing_is_lost",
        ["files=(COMPOSE, PRODUCTION)", "running.up("],
        page=_CONTAINERS,
    ),
    Elsewhere(
        r"docker compose -f \S+ (--profile sim )?(up|build)\b.*",
        f"{_RECORDING}::test_it_records_to_a_data_directory_that_wasnt_there",
        ["docker compose --profile sim up --build", "running.up()"],
        page=_CONTAINERS,
    ),
    Elsewhere(
        r"docker compose -f \S+ run --rm .* --check-config",
        f"{_RECORDING}::test_its_operator_tries_the_settings_and_looks_at_it",
        ['"run", "--rm"', '"--check-config"'],
        page=_CONTAINERS,
    ),
    Elsewhere(
        r"docker compose -f \S+ (ps|logs|exec)\b.*",
        f"{_RECORDING}::test_its_operator_tries_the_settings_and_looks_at_it",
        ["ps", "logs --since 1h archiver", "archiver info", "archiver files --since -12h", "archiver verify"],
        page=_CONTAINERS,
    ),
    Elsewhere(
        r"docker inspect \S+-archiver-1 .*",
        f"{_RECORDING}::test_health_says_what_is_missing",
        ["`docker inspect` has the reason"],
        page=_CONTAINERS,
    ),
    Elsewhere(
        r"docker compose -f \S+ (stop|down)\b.*",
        f"{_RECORDING}::test_at_last_it_stops_in_order_and_leaves_nothing_behind",
        ['"stop"', "site.down()"],
        page=_CONTAINERS,
    ),
    Elsewhere(
        r"docker inspect --format '{{json \.Config\.Labels}}' .*",
        f"{_IMAGE}::test_it_says_what_it_is",
        ['"inspect", "--format", "{{json .Config.Labels}}"'],
        page=_CONTAINERS,
    ),
    Elsewhere(
        r"docker run --rm \S+ cat /opt/g3-recorder/share/g3-recorder/sbom\.cdx\.json .*",
        f"{_IMAGE}::test_its_sbom_lists_all_packages_that_it_has",
        ["/opt/g3-recorder/share/g3-recorder/sbom.cdx.json", '"cat", SBOM'],
        page=_CONTAINERS,
    ),
    # sotodlib, in an environment of 1.1 GB that not every machine has, reads what is recorded and replayed so.
    Elsewhere(
        r"archiver (run|replay) .*|ingest .*|python -m testbed\.(kafka|smurf) .*",
        f"{_OBSERVATIONS}::test_a_session_through_many_faults_is_one_ended_observation",
        ["Simulator(realistic=True", "recorder.ingest(", "recorder.archiver(*OBSERVATORY, *clean", '"replay", *into'],
        page=_OBSERVATORY,
    ),
    Elsewhere(
        r"\$\(python -m testbed\.sotodlib_venv\) tests/sotodlib/reader\.py update .*",
        f"{_OBSERVATIONS}::test_a_session_whose_end_is_alone_in_its_last_file",
        ["analysis.update("],
        page=_OBSERVATORY,
    ),
    Elsewhere(
        r"SMURF\.update_observation_files\(.*",
        f"{_OBSERVATIONS}::test_what_a_pass_leaves_open_the_update_completes",
        ["analysis.update("],  # which calls it
        page=_OBSERVATORY,
    ),
    Elsewhere(
        r"archiver relocate .*",
        "tests/faults/disk/test_private_dir.py::test_an_archive_with_an_open_file_is_moved_there_and_back",
        ["relocate(site, *site.flags)"],
        page=_OBSERVATORY,
    ),
    Elsewhere(
        r"archiver retire --missing .*",
        "tests/integration/commands/test_retire.py::test_what_a_clean_up_job_deleted_is_not_missing_once_it_is_told",
        ['"retire", "--missing", "--dry-run"', '"retire", "--missing", "--reason"'],
        page=_OBSERVATORY,
    ),
)


def where_executed(command: str, page: str) -> Elsewhere | None:
    """Return what executes a command elsewhere; None: it is executed here."""
    line = re.sub(r"\\\n\s*", " ", command).strip().split("\n")[0]
    return next((it for it in TABLE if it.page in ("", page) and re.fullmatch(it.command, line)), None)
