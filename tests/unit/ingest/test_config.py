"""The file of `ingest --streams`: what its tables say over the flags, and what is refused, by stream and key."""

from pathlib import Path

import pytest

from g3stream.service.endpoint import ClientEndpoint, ListenEndpoint
from ingest.__main__ import main, make_parser
from ingest.config import StreamSettings, StreamsFileError, stream_from_flags, streams_from_file


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """What this shell or CI has set says nothing."""
    for name in ("STREAM", "STREAMS", "ADDRESS", "PORT", "LISTEN", "TIMEOUT", "SPOOL_SIZE", "TOPIC_CONFIG"):
        monkeypatch.delenv(f"INGEST_{name}", raising=False)


def streams(tmp_path: Path, text: str, *flags: str) -> list[StreamSettings]:
    """Those of a file with that text."""
    path = tmp_path / "streams.toml"
    path.write_text(text)
    return streams_from_file(path, make_parser().parse_args(["--streams", str(path), *flags]))


def test_what_a_table_does_not_say_the_flags_do(tmp_path: Path) -> None:
    text = """
        [[stream]]
        name = "one"

        [[stream]]
        name = "two"
        address = "srv2"
        port = 4532
        timeout = 0.5
        max-frame-size = "1MiB"
        spool-size = 2000000
        replication-factor = 3
        topic-config = {"retention.bytes" = 5, "min.insync.replicas" = "2", preallocate = true}
    """
    flags = "--address srv1 --timeout 7 --spool-size 1GiB --topic-config retention.bytes=1 --topic-config a=b"
    one, two = streams(tmp_path, text, *flags.split())
    alone = make_parser().parse_args(["--stream", "one", *flags.split()])
    assert one == stream_from_flags(alone, alone.stream)
    assert one == StreamSettings(
        "one", ClientEndpoint("srv1", 50000), 7, 256 << 20, {"retention.bytes": "1", "a": "b"}, None, 1 << 30
    )
    own = {"retention.bytes": "5", "a": "b", "min.insync.replicas": "2", "preallocate": "true"}
    assert two == StreamSettings("two", ClientEndpoint("srv2", 4532), 0.5, 1 << 20, own, 3, 2_000_000)


def test_a_stream_listens_on_a_port_or_on_one_of_an_address(tmp_path: Path) -> None:
    tables = ("50001", '":50002"', '"10.0.0.1:50003"', '"[::1]:50003"')
    text = "".join(f'[[stream]]\nname = "s{n}"\nlisten = {where}\n' for n, where in enumerate(tables))
    assert [stream.source for stream in streams(tmp_path, text)] == [
        ListenEndpoint("", 50001),
        ListenEndpoint("", 50002),
        ListenEndpoint("10.0.0.1", 50003),
        ListenEndpoint("::1", 50003),
    ]


OK = '[[stream]]\nname = "ok"\nport = 1\n'


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ": no stream in it"),
        ("stream = []", ": no stream in it"),
        ("[stream]\nname = 'a'", ": stream: each is a table, [[stream]]"),
        ("stream = 5", ": stream: each is a table"),
        ("[[streams]]\nname = 'a'", ": streams: unknown"),
        (f"port = 5\n{OK}", ": port: unknown"),
        ("[[stream]\n", " is no valid TOML: "),
        (f"{OK}port = 1\n", " is no valid TOML: "),
        ("[[stream]]\nport = 1", ": stream 1: name: missing"),
        ("[[stream]]\nname = 5", ": stream 1: name: must be a text"),
        ("[[stream]]\nname = '../x'", ": stream 1, ../x: name: '../x' is no stream name"),
        (
            f"{OK}[[stream]]\nname = 'a'\nadress = 'b'",
            ": stream 2, a: adress: unknown; there are name, address, port",
        ),
        ("[[stream]]\nname = 'a'\nspool_size = 5", ": stream 1, a: spool_size: unknown; there are"),
        ("[[stream]]\nname = 'a'\nhttp = 5", ": stream 1, a: http: unknown"),
        ("[[stream]]\nname = 'a'\naddress = ['b']", ": stream 1, a: address: must be a text"),
        ("[[stream]]\nname = 'a'\naddress = ''", ": stream 1, a: address: "),
        ("[[stream]]\nname = 'a'\nport = '5'", ": stream 1, a: port: must be a number"),
        ("[[stream]]\nname = 'a'\nport = true", ": stream 1, a: port: must be a number"),
        ("[[stream]]\nname = 'a'\nport = 65536", ": stream 1, a: port: '65536' is not a port"),
        ("[[stream]]\nname = 'a'\nport = -1", ": stream 1, a: port: '-1' is not a port"),
        ("[[stream]]\nname = 'a'\nlisten = 0", ": stream 1, a: listen: '0' is not a port"),
        ("[[stream]]\nname = 'a'\nlisten = 5\nport = 6", ": stream 1, a: port: not together with listen"),
        ("[[stream]]\nname = 'a'\nlisten = 5\naddress = 'b'", ": stream 1, a: address: not together with listen"),
        ("[[stream]]\nname = 'a'\ntimeout = '5 s'", ": stream 1, a: timeout: must be a number of seconds"),
        ("[[stream]]\nname = 'a'\ntimeout = nan", ": stream 1, a: timeout: 'nan' is not a duration"),
        ("[[stream]]\nname = 'a'\nmax-frame-size = 1.5", ": stream 1, a: max-frame-size: must be a size"),
        ("[[stream]]\nname = 'a'\nmax-frame-size = 'big'", ": stream 1, a: max-frame-size: 'big' is not a size"),
        ("[[stream]]\nname = 'a'\nspool-size = 0", ": stream 1, a: spool-size: '0' is not a size"),
        ("[[stream]]\nname = 'a'\nspool-size = '1MB'", ": stream 1, a: spool-size: must be at least 1MiB"),
        ("[[stream]]\nname = 'a'\nreplication-factor = 0", ": stream 1, a: replication-factor: '0' is not a number"),
        ("[[stream]]\nname = 'a'\ntopic-config = 'a=b'", ": stream 1, a: topic-config: must be a table"),
        ("[[stream]]\nname = 'a'\ntopic-config = {a.b = 1}", ": stream 1, a: topic-config: a: no text or number; "),
        ("[[stream]]\nname = 'a'\ntopic-config = {a = [1]}", ": stream 1, a: topic-config: a: no text or number; "),
        ("[[stream]]\nname = 'a'\ntopic-config = {'' = 1}", ": stream 1, a: topic-config: '=1' is not key=value"),
        (f"{OK}[[stream]]\nname = 'ok'\nport = 2", ": stream 2, ok: name: the same as stream 1, ok"),
        (
            f"{OK}[[stream]]\nname = 'a'\nport = 1",
            ": stream 2, a: address, port: the same sender, localhost:1, as str",
        ),
        (
            "[[stream]]\nname = 'a'\n[[stream]]\nname = 'b'",
            ": stream 2, b: address, port: the same sender, localhost:50000, as stream 1, a",
        ),
        (
            f"{OK}[[stream]]\nname = 'a'\nlisten = 5\n[[stream]]\nname = 'b'\nlisten = '127.0.0.1:5'",
            ": stream 3, b: listen: the same port as stream 2, a",
        ),
        (
            "[[stream]]\nname = 'a'\nlisten = '10.0.0.1:5'\n[[stream]]\nname = 'b'\nlisten = '10.0.0.1:5'",
            ": stream 2, b: listen: the same port as stream 1, a",
        ),
    ],
)
def test_a_wrong_file_is_wrong_usage_and_nothing_is_opened(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, expected: str
) -> None:
    path = tmp_path / "streams.toml"
    path.write_text(text)
    spools = tmp_path / "spools"
    with pytest.raises(SystemExit) as exit_:
        main(["--streams", str(path), "--spool-dir", str(spools)])
    assert exit_.value.code == 2
    assert f"ingest: error: {path}{expected}" in capsys.readouterr().err
    assert not spools.exists()


@pytest.mark.parametrize("content", [None, b"\xff\xfe", b"a = " + b"[" * 100_000, b"a = " + b"1" * 10_000])
def test_a_file_that_cannot_be_read_is_wrong_usage(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes | None
) -> None:
    path = tmp_path / "streams.toml"
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content)
    with pytest.raises(SystemExit) as exit_:
        main(["--streams", str(path)])
    assert exit_.value.code == 2
    assert f"ingest: error: {path}" in capsys.readouterr().err


def test_the_same_port_of_two_addresses_is_two_ports(tmp_path: Path) -> None:
    tables = ("'10.0.0.1:5'", "'10.0.0.2:5'")
    text = "".join(f"[[stream]]\nname = 's{n}'\nlisten = {where}\n" for n, where in enumerate(tables))
    assert len(streams(tmp_path, text)) == 2


@pytest.mark.parametrize(
    ("flags", "variables", "expected"),
    [
        ("", {}, "one of these is required: --stream or --streams"),
        ("--stream a --streams {file}", {}, "not together: --stream and --streams"),
        ("", {"INGEST_STREAM": "a", "INGEST_STREAMS": "{file}"}, "not together: --stream and --streams"),
        ("--streams {file} --listen 5", {}, "--listen: not with --streams"),
        ("", {"INGEST_STREAMS": "{file}", "INGEST_LISTEN": "5"}, "--listen: not with --streams"),
        ("--streams /nowhere/at/all", {}, "/nowhere/at/all: No such file"),
        ("", {"INGEST_STREAMS": "/nowhere/at/all"}, "/nowhere/at/all: No such file"),
    ],
)
def test_one_stream_or_a_file_of_them(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    flags: str,
    variables: dict[str, str],
    expected: str,
) -> None:
    file = tmp_path / "streams.toml"
    file.write_text(OK)
    for name, value in variables.items():
        monkeypatch.setenv(name, value.format(file=file))
    with pytest.raises(SystemExit) as exit_:
        main(flags.format(file=file).split())
    assert exit_.value.code == 2
    assert expected in capsys.readouterr().err


def test_the_flag_of_one_beats_the_variable_of_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INGEST_STREAM", "a")
    found = make_parser().parse_args(["--streams", "f"])
    assert (found.stream, found.streams) == (None, Path("f"))
    monkeypatch.setenv("INGEST_STREAMS", "f")
    found = make_parser().parse_args(["--stream", "b"])
    assert (found.stream, found.streams) == ("b", None)


def test_the_variable_says_the_file_of_streams(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "streams.toml"
    path.write_text(OK)
    monkeypatch.setenv("INGEST_STREAMS", str(path))
    options = make_parser().parse_args([])
    assert [stream.name for stream in streams_from_file(options.streams, options)] == ["ok"]


def test_the_example_in_help_is_a_file_of_streams(tmp_path: Path) -> None:
    lines = make_parser().format_help().splitlines()
    at = next(n for n, line in enumerate(lines) if line.strip() == "[[stream]]")
    example = [line for line in lines[at:] if line.startswith("  ") or not line]
    [two, three] = streams(tmp_path, "\n".join(example))
    assert two.source == ClientEndpoint("smurf-srv01", 4532)
    assert three.source == ListenEndpoint("", 50003)
    assert three.topic_config == {"retention.bytes": "500000000000"}


def test_no_error_is_without_its_kind() -> None:
    with pytest.raises(StreamsFileError, match="No such file"):
        streams_from_file(Path("/nowhere/at/all"), make_parser().parse_args(["--streams", "f"]))


def test_a_file_without_an_end_is_refused() -> None:
    with pytest.raises(StreamsFileError, match="File too large: above 4 MiB"):
        streams_from_file(Path("/dev/zero"), make_parser().parse_args(["--stream", "s"]))
