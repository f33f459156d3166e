"""client.properties: the file for Kafka's own tools becomes librdkafka's settings, and no message has a secret."""

import argparse
import tempfile
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from g3stream.service.arguments import EnvArgumentParser, client_properties


def properties(tmp_path: Path, text: str) -> dict[str, str]:
    """Return librdkafka's settings from a file with that text."""
    path = tmp_path / "client.properties"
    path.write_text(text, encoding="utf-8")
    return client_properties(str(path))


def refused(capsys: pytest.CaptureFixture[str], path: Path) -> str:
    """Return a command's error for that file, which must be refused as wrong usage."""
    command = EnvArgumentParser("tool", "what it does")
    command.add_kafka_options()
    with pytest.raises(SystemExit) as exit_:
        command.parse_args(["--kafka-config", str(path)])
    assert exit_.value.code == 2
    return capsys.readouterr().err


def test_client_properties(tmp_path: Path) -> None:
    text = "# comment\n! too \\\n\n a.b = c=d \na.empty=\nsasl.password=p#w!ü\r\na.c: 1\na.b=last\n"
    expected = {"a.b": "last", "a.empty": "", "sasl.password": "p#w!ü", "a.c": "1"}
    assert properties(tmp_path, text) == expected


def test_a_backslash_continues_a_line_and_escapes_as_in_java(tmp_path: Path) -> None:
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
        # Escaped twice: for the properties file, and for JAAS.
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
    ("line", "message"),
    [
        ("ssl.truststore.location={0}/store.jks", "ssl.ca.location=ca.pem"),
        ("ssl.keystore.location={0}/store.jks", "-deststoretype PKCS12"),
        ("ssl.truststore.location={0}/store.p12", "ssl.ca.location=ca.pem"),
        ("ssl.keystore.location={0}/neither", "neither PEM nor a keystore"),
        ("ssl.keystore.location={0}/missing", "No such file"),
        ("ssl.ca.location={0}/missing", "doesn't exist"),
        (f"ssl.keystore.certificate.chain={PEM * 2}".replace("\n", " "), "ssl.keystore.type=PEM"),
        ("sasl.jaas.config=com.sun.security.auth.module.Krb5LoginModule required x=hunter2;", "sasl.oauthbearer"),
        (f'sasl.jaas.config={SCRAM} required username="a" password="hunter2"', "not of the form"),
        (f'sasl.jaas.config={SCRAM} required username="a" password="hun"ter2";', "not of the form"),
        (f"sasl.jaas.config={SCRAM} required username='a' password='hunter2';", "not of the form"),
        (f'sasl.jaas.config={SCRAM} required username="a" password="hunter2" tokenauth="true";', "nothing else"),
        (f'sasl.jaas.config={SCRAM} required username="a";', "needs a username and a password"),
        ("sasl.password=hun\\ter2\\w", "line 1: a backslash begins an escape"),
        ("sasl.password=hunter2\\ud800", "half a surrogate pair"),
        ("enable.auto.commit=true", "enable.auto.commit: the recorder sets this itself"),
        ("default.topic.config=hunter2", "default.topic.config: the recorder sets this itself"),
        ("error_cb=hunter2", "not a Kafka client setting"),
    ],
)
def test_what_cannot_be_translated_is_refused_with_what_to_write_instead(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], line: str, message: str
) -> None:
    (tmp_path / "store.jks").write_bytes(b"\xfe\xed\xfe\xed\0\0\0\2")
    (tmp_path / "store.p12").write_bytes(b"\x30\x82")
    (tmp_path / "neither").write_bytes(b"hunter2")
    (tmp_path / "client.properties").write_text(line.format(tmp_path) + "\n")
    shown = refused(capsys, tmp_path / "client.properties")
    assert message in shown
    assert "hunter2" not in shown


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
def test_errors_in_client_properties_say_where_and_show_no_secret(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], line: str
) -> None:
    path = tmp_path / "client.properties"
    path.write_text(f"a.a=b\\\nc\n{line}\n")
    shown = refused(capsys, path)
    assert "line 3" in shown
    assert str(path) in shown
    assert "hunter2" not in shown


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
    shown = refused(capsys, path)
    assert str(path) in shown
    assert "hunter2" not in shown


def test_client_properties_without_an_end_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert "File too large: above 4 MiB" in refused(capsys, Path("/dev/zero"))
