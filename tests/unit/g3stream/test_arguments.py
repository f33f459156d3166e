"""What both commands take: flags, an environment variable for each, Kafka client properties."""

import argparse
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

import pytest
from confluent_kafka import KafkaException, Producer
from hypothesis import given
from hypothesis import strategies as st

from archiver.__main__ import make_parser as archiver_parser
from g3stream.kafka.client_config import kafka_client, kafka_refusal
from g3stream.service.arguments import Flags, client_properties, port, seconds, size, stream_flag
from g3stream.service.endpoint import ListenOn
from ingest.__main__ import make_parser as ingest_parser

PARSERS: dict[str, Callable[[], argparse.ArgumentParser]] = {"ingest": ingest_parser, "archiver": archiver_parser}
NEEDED = {"ingest": ["--stream", "s"], "archiver": ["--data-dir", "d"]}


VARIABLES = {name for make in PARSERS.values() for name in re.findall(r"\[([A-Z][A-Z_]+)", make().format_help())}


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """What this shell or CI has set says nothing."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


def refused(capsys: pytest.CaptureFixture[str], command: str, *args: str) -> str:
    """Parse what must be refused as wrong usage; the message."""
    with pytest.raises(SystemExit) as exit_:
        PARSERS[command]().parse_args([*NEEDED[command], *args])
    assert exit_.value.code == 2
    return capsys.readouterr().err


# -- types of flags -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1", 1),
        ("4096", 4096),
        ("7B", 7),
        ("500MB", 500_000_000),
        ("256MiB", 256 << 20),
        ("256mib", 256 << 20),
        (" 16 GiB ", 16 << 30),
        ("3KiB", 3072),
        ("3kB", 3000),
        ("2TB", 2 * 10**12),
        ("2TiB", 2 << 40),
    ],
)
def test_sizes(text: str, expected: int) -> None:
    assert size(text) == expected


@pytest.mark.parametrize("text", ["", "0", "0GiB", "-1", "1.5GiB", "GiB", "1 G", "1PiB", "1e9", "1GiB\n2", "nan"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="no size"):
        size(text)


@pytest.mark.parametrize(
    ("text", "expected"), [("5", 5), ("0.25", 0.25), ("600", 600), ("1e3", 1000), ("0.001", 0.001)]
)
def test_seconds(text: str, expected: float) -> None:
    assert seconds(text) == expected


@pytest.mark.parametrize("text", ["", "0", "-1", "-0.5", "nan", "inf", "-inf", "1e10", "5s", "0.0001", "five"])
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="no time"):
        seconds(text)


@pytest.mark.parametrize(("text", "expected"), [("1", 1), ("50000", 50000), ("65535", 65535)])
def test_ports(text: str, expected: int) -> None:
    assert port(text) == expected


@pytest.mark.parametrize("text", ["", "0", "65536", "-1", "1.0", "http", "5 ", "9" * 5000])
def test_what_is_no_port(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="no port"):
        port(text)


@given(st.text(max_size=12), st.sampled_from([size, seconds, port, stream_flag]))
def test_any_text_is_a_value_or_refused(text: str, kind: Callable[[str], object]) -> None:
    with suppress(argparse.ArgumentTypeError):
        assert kind(text)


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (["--since", "-2h"], "-2h"),
        (["--since=-2h"], "-2h"),
        (["--since", "-1.5d", "--name", "b"], "-1.5d"),
        (["--since", "2026-11-22"], "2026-11-22"),
    ],
)
def test_a_time_before_now_is_a_flags_value(args: list[str], expected: str) -> None:
    """argparse alone takes it for another flag."""
    made = Flags("tool", "what it does", "examples: none")
    made.add_argument("--since")
    made.add_argument("--name")
    assert made.parse_args(args).since == expected


@pytest.mark.parametrize("args", [["--since"], ["--since", "--name", "b"], ["--since", "-h2"], ["-2h"]])
def test_what_is_no_time_before_now_is_no_flags_value(args: list[str]) -> None:
    made = Flags("tool", "what it does", "examples: none")
    made.add_argument("--since")
    made.add_argument("--name")
    with pytest.raises(SystemExit):
        made.parse_args(args)


# -- flag, variable, default ----------------------------------------------------------------------------------


def flags() -> Flags:
    """Those of a command `tool`."""
    made = Flags("tool", "what it does", "examples: tool --time-per-file 5")
    made.option("--time-per-file", type=seconds, default="600", help="how long")
    made.option("--name", required=True, help="who")
    made.option("--item", action="append", type=int, default=[], help="which")
    made.option("--level", env="LEVEL", default="info", help="how much")
    return made


def test_the_flag_beats_the_variable_and_the_variable_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    assert flags().parse_args(["--name", "a"]).time_per_file == 600
    monkeypatch.setenv("TOOL_TIME_PER_FILE", "60")
    assert flags().parse_args(["--name", "a"]).time_per_file == 60
    assert flags().parse_args(["--name", "a", "--time-per-file", "6"]).time_per_file == 6


def test_a_variable_satisfies_what_is_required(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        flags().parse_args([])
    assert "--name" in capsys.readouterr().err
    monkeypatch.setenv("TOOL_NAME", "")
    with pytest.raises(SystemExit):
        flags().parse_args([])
    monkeypatch.setenv("TOOL_NAME", "me")
    assert flags().parse_args([]).name == "me"


def test_a_variable_with_a_name_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOOL_NAME", "me")
    monkeypatch.setenv("TOOL_LEVEL", "wrong")
    monkeypatch.setenv("LEVEL", "debug")
    assert flags().parse_args([]).level == "debug"


def test_a_list_in_a_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    assert flags().parse_args(["--name", "a"]).item == []
    monkeypatch.setenv("TOOL_ITEM", " 1 2  3 ")
    assert flags().parse_args(["--name", "a"]).item == [1, 2, 3]


def test_a_list_of_flags_beats_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOOL_ITEM", "1 2")
    assert flags().parse_args(["--name", "a", "--item", "3"]).item == [3]


@pytest.mark.parametrize(
    ("command", "name", "value"),
    [
        ("ingest", "INGEST_PORT", "0"),
        ("ingest", "INGEST_STREAM", "../x"),
        ("ingest", "INGEST_KAFKA_CONFIG", "/nowhere/at/all"),
        ("archiver", "ARCHIVER_NAME_FORMAT", "iso"),
        ("archiver", "ARCHIVER_GAP", "-1"),
    ],
)
def test_a_bad_value_in_a_variable_is_wrong_usage(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: str, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    required = [] if name == "INGEST_STREAM" else NEEDED[command]
    with pytest.raises(SystemExit) as exit_:
        PARSERS[command]().parse_args(required)
    assert exit_.value.code == 2
    assert f"error: the environment variable {name}: " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "name", "value"),
    [
        ("archiver", "ARCHIVER_STREAM", "../x"),
        ("ingest", "INGEST_TOPIC_CONFIG", "no-value"),
        ("archiver", "ARCHIVER_CARRY", "Bogus"),
        ("ingest", "LOGLEVEL", "loud"),
        ("archiver", "LOGLEVEL", "loud"),
    ],
)
def test_a_bad_item_or_choice_in_a_variable_is_wrong_usage(
    monkeypatch: pytest.MonkeyPatch, command: str, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit) as exit_:
        PARSERS[command]().parse_args(NEEDED[command])
    assert exit_.value.code == 2


# -- client.properties ----------------------------------------------------------------------------------------


def properties(tmp_path: Path, text: str) -> dict[str, str]:
    """What a file with that text says to librdkafka."""
    path = tmp_path / "client.properties"
    path.write_text(text, encoding="utf-8")
    return client_properties(str(path))


def test_client_properties(tmp_path: Path) -> None:
    text = "# comment\n! too \\\n\n a.b = c=d \na.empty=\nsasl.password=p#w!ü\r\na.c: 1\na.b=last\n"
    expected = {"a.b": "last", "a.empty": "", "sasl.password": "p#w!ü", "a.c": "1"}
    assert properties(tmp_path, text) == expected


def test_a_backslash_goes_on_with_the_next_line_and_escapes_as_in_java(tmp_path: Path) -> None:
    text = "a.b=one \\\n    two\\\\\\\n three\na.c=\\u00fc\\=\\:\\\\\\t|\na.d=\\ud83d\\ude00\na.e=end\\"
    assert properties(tmp_path, text) == {"a.b": "one two\\three", "a.c": "ü=:\\\t|", "a.d": "😀", "a.e": "end"}


SCRAM = "org.apache.kafka.common.security.scram.ScramLoginModule"


@pytest.mark.parametrize(
    ("jaas", "password"),
    [
        (f'{SCRAM} required username="alice" password="hunter2";', "hunter2"),
        (f'{SCRAM} required \\\n  username="alice" \\\n  password="hunter2" ;', "hunter2"),
        (f"{SCRAM} required password=hunter2 username=alice;", "hunter2"),
        (f'{SCRAM} REQUIRED username = "alice" password = " ;=\'";', " ;='"),
        # Twice escaped: for the properties file, and for JAAS.
        (f'{SCRAM} required username="alice" password="a\\\\"b\\\\\\\\c";', 'a"b\\c'),
        (f'{SCRAM.replace("scram.Scram", "plain.Plain")} required username="alice" password="ü";', "ü"),
    ],
)
def test_a_jaas_login_becomes_username_and_password(tmp_path: Path, jaas: str, password: str) -> None:
    found = properties(tmp_path, f"sasl.mechanism=SCRAM-SHA-512\nsasl.jaas.config={jaas}\n")
    assert found == {"sasl.mechanism": "SCRAM-SHA-512", "sasl.username": "alice", "sasl.password": password}


PEM = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"
KEY = PEM.replace("CERTIFICATE", "PRIVATE KEY")


def test_pem_stores_become_librdkafkas_files(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text(PEM)
    (tmp_path / "client.pem").write_text(KEY + PEM)
    stores = f"""
        ssl.truststore.type=PEM
        ssl.truststore.location={tmp_path}/ca.pem
        ssl.keystore.type=PEM
        ssl.keystore.location={tmp_path}/client.pem
        ssl.key.password=hunter2
        ssl.endpoint.identification.algorithm="""
    assert properties(tmp_path, stores) == {
        "ssl.ca.location": f"{tmp_path}/ca.pem",
        "ssl.certificate.location": f"{tmp_path}/client.pem",
        "ssl.key.location": f"{tmp_path}/client.pem",
        "ssl.key.password": "hunter2",
        "ssl.endpoint.identification.algorithm": "none",
    }


def test_pem_in_the_properties_themselves(tmp_path: Path) -> None:
    # On one line, with spaces or escaped line ends: Java reads both.
    spaced, escaped, continued = (text.replace("\n", by) for text, by in ((PEM, " "), (KEY, "\\n"), (PEM, "\\n\\\n")))
    text = f"ssl.truststore.certificates={spaced}{spaced}\nssl.keystore.key={escaped}\n"
    text += f"ssl.keystore.certificate.chain={continued}\n"
    expected = {"ssl.ca.pem": PEM * 2, "ssl.key.pem": KEY, "ssl.certificate.pem": PEM}
    assert properties(tmp_path, text) == expected


def test_a_pkcs12_keystore_is_librdkafkas_own(tmp_path: Path) -> None:
    (tmp_path / "client.p12").write_bytes(b"\x30\x82 and so on")
    stores = f"ssl.keystore.type=JKS\nssl.keystore.location={tmp_path}/client.p12\nssl.keystore.password=hunter2"
    assert properties(tmp_path, stores) == {
        "ssl.keystore.location": f"{tmp_path}/client.p12",
        "ssl.keystore.password": "hunter2",
    }


def test_librdkafkas_names_beside_javas_win(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text(PEM)
    text = f"""
        ssl.truststore.location=/no/such/store.jks
        ssl.keystore.location=/no/such/store.jks
        ssl.keystore.password=hunter2
        sasl.jaas.config=com.sun.security.auth.module.Krb5LoginModule required;
        ssl.ca.location={tmp_path}/ca.pem
        ssl.certificate.pem=c
        ssl.key.pem=k
        sasl.username=alice
        sasl.password=hunter2"""
    assert properties(tmp_path, text) == {
        "ssl.ca.location": f"{tmp_path}/ca.pem",
        "ssl.certificate.pem": "c",
        "ssl.key.pem": "k",
        "sasl.username": "alice",
        "sasl.password": "hunter2",
    }


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("ssl.truststore.location={0}/store.jks", "ssl.ca.location=ca.pem"),
        ("ssl.keystore.location={0}/store.jks", "-deststoretype PKCS12"),
        ("ssl.truststore.location={0}/store.p12", "ssl.ca.location=ca.pem"),
        ("ssl.keystore.location={0}/neither", "neither PEM nor a keystore"),
        ("ssl.keystore.location={0}/missing", "No such file"),
        ("ssl.ca.location={0}/missing", "not there"),
        (f"ssl.keystore.certificate.chain={PEM * 2}".replace("\n", " "), "ssl.keystore.type=PEM"),
        ("sasl.jaas.config=com.sun.security.auth.module.Krb5LoginModule required x=hunter2;", "sasl.oauthbearer"),
        (f'sasl.jaas.config={SCRAM} required username="a" password="hunter2"', "not of the form"),
        (f'sasl.jaas.config={SCRAM} required username="a" password="hun"ter2";', "not of the form"),
        (f"sasl.jaas.config={SCRAM} required username='a' password='hunter2';", "not of the form"),
        (f'sasl.jaas.config={SCRAM} required username="a" password="hunter2" tokenauth="true";', "nothing else"),
        (f'sasl.jaas.config={SCRAM} required username="a";', "needs a username and a password"),
        ("sasl.password=hun\\ter2\\w", "line 1: a backslash escapes"),
        ("sasl.password=hunter2\\ud800", "half a character"),
        ("enable.auto.commit=true", "enable.auto.commit: the recorder sets this itself"),
        ("default.topic.config=hunter2", "default.topic.config: the recorder sets this itself"),
        ("error_cb=hunter2", "no name of a Kafka client setting"),
    ],
)
def test_what_cannot_be_translated_is_refused_with_what_to_write_instead(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], line: str, says: str
) -> None:
    (tmp_path / "store.jks").write_bytes(b"\xfe\xed\xfe\xed\0\0\0\2")
    (tmp_path / "store.p12").write_bytes(b"\x30\x82")
    (tmp_path / "neither").write_bytes(b"hunter2")
    (tmp_path / "client.properties").write_text(line.format(tmp_path) + "\n")
    said = refused(capsys, "ingest", "--kafka-config", str(tmp_path / "client.properties"))
    assert says in said
    assert "hunter2" not in said


@pytest.mark.parametrize(
    "line",
    [
        "sasl.password hunter2",
        "hunter2",
        "=hunter2",
        " = hunter2",
        "hunter2==",
        "sasl.password hunter2=",
        "Zm9v.hunter2=",
    ],
)
def test_errors_in_client_properties_say_where_and_tell_no_secret(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], line: str
) -> None:
    path = tmp_path / "client.properties"
    path.write_text(f"a.a=b\\\nc\n{line}\n")
    said = refused(capsys, "ingest", "--kafka-config", str(path))
    assert "line 3" in said
    assert str(path) in said
    assert "hunter2" not in said


@given(st.text(max_size=60))
def test_any_text_is_client_properties_or_refused(text: str) -> None:
    with tempfile.TemporaryDirectory() as directory, suppress(argparse.ArgumentTypeError):
        for name, value in properties(Path(directory), text).items():
            assert name.isascii()
            value.encode()


@pytest.mark.parametrize("content", [None, b"sasl.password=hunter2\xff\xfe\n"])
def test_unreadable_client_properties_are_wrong_usage(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes | None
) -> None:
    path = tmp_path / "client.properties"
    if content:
        path.write_bytes(content)
    said = refused(capsys, "archiver", "--kafka-config", str(path))
    assert str(path) in said
    assert "hunter2" not in said


def test_client_properties_without_an_end_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert "File too large: above 4 MiB" in refused(capsys, "archiver", "--kafka-config", "/dev/zero")


def test_which_kafka_setting_wins(tmp_path: Path) -> None:
    path = tmp_path / "client.properties"
    path.write_text("bootstrap.servers=file:1\nlinger.ms=9\n")
    ours: Mapping[str, str | int | bool] = {"linger.ms": 2, "acks": "all"}

    def config(*args: str) -> dict[str, object]:
        return dict(kafka_client(ingest_parser().parse_args(["--stream", "s", *args]), ours))

    plain = config()
    assert (plain["bootstrap.servers"], plain["linger.ms"], plain["acks"]) == ("localhost:9092", 2, "all")
    filed = config("--kafka-config", str(path))
    assert (filed["bootstrap.servers"], filed["linger.ms"], filed["acks"]) == ("file:1", "9", "all")
    flagged = config("--kafka-config", str(path), "--bootstrap-servers", "flag:1")
    assert (flagged["bootstrap.servers"], flagged["linger.ms"]) == ("flag:1", "9")


# -- the two commands -----------------------------------------------------------------------------------------


def test_ingest_takes_every_documented_option(tmp_path: Path) -> None:
    (tmp_path / "p").write_text("a.b=c")
    text = f"""--stream crate1slot2 --address host --port 4532 --listen 10.0.0.1:50001 --timeout 7.5
        --max-frame-size 1GiB --bootstrap-servers a:1,b:2 --kafka-config {tmp_path}/p --topic-config k=v=w
        --topic-config l= --replication-factor 3 --spool-dir {tmp_path} --spool-size 2GiB --log-level DEBUG
        --log-format json --http 9101"""
    assert vars(ingest_parser().parse_args(text.split())) == {
        "stream": "crate1slot2",
        "streams": None,
        "address": "host",
        "port": 4532,
        "listen": ListenOn("10.0.0.1", 50001),
        "timeout": 7.5,
        "max_frame_size": 1 << 30,
        "bootstrap_servers": "a:1,b:2",
        "kafka_config": {"a.b": "c"},
        "topic_config": [("k", "v=w"), ("l", "")],
        "replication_factor": 3,
        "spool_dir": tmp_path,
        "spool_size": 2 << 30,
        "log_level": "debug",
        "log_format": "json",
        "http": ListenOn("127.0.0.1", 9101),
    }


def test_ingest_defaults() -> None:
    options = ingest_parser().parse_args(["--stream", "s"])
    assert (options.address, options.port, options.listen, options.timeout) == ("localhost", 50000, None, 5)
    assert (options.max_frame_size, options.spool_size, options.log_level) == (256 << 20, 16 << 30, "info")
    assert (options.topic_config, options.replication_factor, options.kafka_config) == ([], None, {})
    assert (options.log_format, options.http) == ("text", None)


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("50000", ListenOn("", 50000)),
        (":5", ListenOn("", 5)),
        ("h:5", ListenOn("h", 5)),
        ("[::1]:5", ListenOn("::1", 5)),
    ],
)
def test_listen(text: str, where: ListenOn) -> None:
    options = ingest_parser().parse_args(["--stream", "s", "--listen", text, "--http", text])
    assert options.listen == where
    assert options.http == ListenOn(where.host or "127.0.0.1", where.port), "to others only if that is said"


def test_archiver_takes_every_documented_option() -> None:
    text = """--data-dir /data --time-per-file 60 --gap 3 --name-format ctime --carry Observation --carry Wiring
        --stream a --stream b --group g --instance-id i --bootstrap-servers a:1 --log-level error
        --log-format json --http 0.0.0.0:9102"""
    options = archiver_parser().parse_args(text.split())
    assert (options.data_dir, options.time_per_file, options.gap) == (Path("/data"), 60, 3)
    assert (options.name_format, options.carry, options.stream) == ("ctime", ["Observation", "Wiring"], ["a", "b"])
    assert (options.group, options.instance_id, options.log_level) == ("g", "i", "error")
    assert (options.log_format, options.http) == ("json", ListenOn("0.0.0.0", 9102))  # noqa: S104 - as a container says it


def test_archiver_defaults() -> None:
    options = archiver_parser().parse_args(["--data-dir", "d"])
    assert (options.time_per_file, options.gap, options.name_format, options.group) == (600, 10, "date", "archiver")
    assert (options.stream, options.carry, options.instance_id) == ([], [], None)
    assert (options.log_format, options.http) == ("text", None)


@pytest.mark.parametrize("command", PARSERS)
@pytest.mark.parametrize(
    "args", [["--nonsense"], ["--log-level", "loud"], ["--log", "info"], ["--boot", "a:1"], ["extra"]]
)
def test_unknown_and_abbreviated_flags_are_refused(
    capsys: pytest.CaptureFixture[str], command: str, args: list[str]
) -> None:
    assert args[0] in refused(capsys, command, *args)


@pytest.mark.parametrize(
    ("command", "args"),
    [
        ("ingest", ["--stream", "a/b"]),
        ("ingest", ["--stream", "a\n"]),
        ("ingest", ["--timeout", "-1"]),
        ("ingest", ["--port", "70000"]),
        ("ingest", ["--listen", "host"]),
        ("ingest", ["--max-frame-size", "0"]),
        ("ingest", ["--topic-config", "novalue"]),
        ("ingest", ["--replication-factor", "0"]),
        ("ingest", ["--spool-size", "lots"]),
        ("archiver", ["--time-per-file", "-600"]),
        ("archiver", ["--gap", "0"]),
        ("archiver", ["--name-format", "iso"]),
        ("archiver", ["--carry", "Bogus"]),
        ("archiver", ["--stream", ".."]),
        ("archiver", ["--group", "a b"]),
        ("archiver", ["--instance-id", "../x"]),
    ],
)
def test_bad_values_are_refused_by_name(capsys: pytest.CaptureFixture[str], command: str, args: list[str]) -> None:
    assert f"argument {args[0]}" in refused(capsys, command, *args)


@pytest.mark.parametrize("command", PARSERS)
def test_help_teaches(capsys: pytest.CaptureFixture[str], command: str) -> None:
    parser = PARSERS[command]()
    with pytest.raises(SystemExit) as exit_:
        parser.parse_args(["--help"])
    assert exit_.value.code == 0
    said = capsys.readouterr().out
    assert "examples:" in said
    for action in parser._actions:
        flag = action.option_strings[-1]
        assert flag in said
        if flag not in ("--help", "--version"):
            named = {"--bootstrap-servers": "KAFKA_BOOTSTRAP_SERVERS", "--log-level": "LOGLEVEL"}
            assert named.get(flag, f"{command}_{flag[2:]}".upper().replace("-", "_")) in said


@pytest.mark.parametrize("command", PARSERS)
def test_the_module_runs(command: str) -> None:
    done = subprocess.run([sys.executable, "-m", command, "--version"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert re.fullmatch(rf"{command} \d+\.\d+\.\d+\S*\n", done.stdout)
    wrong = subprocess.run([sys.executable, "-m", command, "--wat"], capture_output=True, text=True, check=False)
    assert wrong.returncode == 2
    assert "Traceback" not in wrong.stderr


REFUSED = [
    ({"security.protocol": "hunter2"}, 'Invalid value "…" for configuration property "security.protocol"'),
    ({"debug": "broker,hunter2"}, 'Invalid value "…" for configuration property "debug"'),
    ({"compression.type": "hunter.two"}, 'Invalid value "…" for configuration property "compression.codec"'),
    ({"partitioner": "hunter2"}, 'Invalid value for configuration property "partitioner": …'),
    ({"security.protocol": 'hunt"er 2'}, 'Invalid value "…" for configuration property "security.protocol"'),
    (
        {"socket.timeout.ms": "99999999999"},  # librdkafka tells another number
        'Configuration property "socket.timeout.ms" value … is outside allowed range 10..300000',
    ),
    ({"socket.timeout.ms": "hunter2"}, 'Invalid value for configuration property "socket.timeout.ms"'),
    ({"no.such.setting": "hunter2"}, 'No such configuration property: "no.such.setting"'),
]


@pytest.mark.parametrize(("properties", "said"), REFUSED)
def test_what_librdkafka_says_of_a_setting_is_told_without_its_value(properties: dict[str, str], said: str) -> None:
    with pytest.raises(KafkaException) as refused:
        Producer({**properties})
    options = argparse.Namespace(kafka_config=properties)
    assert kafka_refusal(refused.value, options) == said


def test_a_database_of_suprsync_without_its_package_is_wrong_usage(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "socs.db.suprsync", None)  # as if it weren't there
    with pytest.raises(SystemExit, match="2"):
        archiver_parser().parse_args(["--data-dir", "/data", "--suprsync-db", "suprsync.db"])
    assert "pip install 'g3-recorder[socs]'" in capsys.readouterr().err
