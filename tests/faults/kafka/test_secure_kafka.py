"""TLS and SASL by `--kafka-config`, the file of Kafka's own tools; none of its secrets is in any log."""

import re
import secrets
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import trustme
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # re-exported without saying so
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)
from cryptography.hazmat.primitives import serialization

import g3stream
from testbed.child_process import HOST, free_port
from testbed.kafka.broker import Broker
from testbed.kafka.distribution import installation
from tests.support.processes import SECONDS, Program, RawSender, Recorder, admin_client, flow, scan

SCRAM = "org.apache.kafka.common.security.scram.ScramLoginModule"
PASSWORD, KEY_PASSWORD, WRONG = (f"secret-{secrets.token_hex(8)}" for _ in range(3))


@dataclass(frozen=True, slots=True)
class SecureKafka:
    """A broker that requires a client certificate (SSL) or a password (SASL_PLAINTEXT, SASL_SSL).

    directory: of ca.pem, other-ca.pem, client.pem (key, encrypted with KEY_PASSWORD, and certificate), and
    open-client.pem (the same, not encrypted).
    """

    broker: Broker
    ports: dict[str, int]
    directory: Path

    def servers(self, protocol: str) -> str:
        return f"{HOST}:{self.ports[protocol]}"

    def set_password(self, user: str, password: str) -> None:
        """Set a user's password, as `kafka-configs.sh --add-config SCRAM-SHA-512=…` does."""
        admin = admin_client(self.broker.bootstrap_servers)
        info = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 4096)
        change = UserScramCredentialUpsertion(user, info, password.encode())
        admin.alter_user_scram_credentials([change])[user].result(SECONDS)

    def file(self, path: Path, text: str) -> Path:
        """Write properties to a file, replacing `{dir}` by the directory of the keys."""
        path.write_text(text.replace("{dir}", str(self.directory)))
        path.chmod(0o600)
        return path


def pem(issued: trustme.LeafCert, password: str | None = None) -> bytes:
    """Return key and certificate as Kafka reads them: PKCS#8."""
    key = serialization.load_pem_private_key(issued.private_key_pem.bytes(), None)
    encryption = (
        serialization.BestAvailableEncryption(password.encode()) if password else serialization.NoEncryption()
    )
    pkcs8 = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)
    return pkcs8 + b"".join(blob.bytes() for blob in issued.cert_chain_pems)


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecureKafka]:
    directory = tmp_path_factory.mktemp("secure-kafka")
    ca = trustme.CA()
    (directory / "ca.pem").write_bytes(ca.cert_pem.bytes())
    (directory / "other-ca.pem").write_bytes(trustme.CA().cert_pem.bytes())
    (directory / "server.pem").write_bytes(pem(ca.issue_cert(HOST)))
    client = ca.issue_cert("recorder@example.org")
    (directory / "client.pem").write_bytes(pem(client, KEY_PASSWORD))
    (directory / "open-client.pem").write_bytes(pem(client))
    ports = {protocol: free_port() for protocol in ("SSL", "SASL_PLAINTEXT", "SASL_SSL")}
    properties = {
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(directory / "server.pem"),
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": str(directory / "ca.pem"),
        "ssl.client.auth": "required",
        "sasl.enabled.mechanisms": "SCRAM-SHA-512",
        **{
            f"listener.name.{protocol}.scram-sha-512.sasl.jaas.config": f"{SCRAM} required;"
            for protocol in ("sasl_plaintext", "sasl_ssl")
        },
        # The broker delays its response to a wrong password, against guessing.
        "connection.failed.authentication.delay.ms": "50",
    }
    with Broker(directory / "kafka", properties=properties, listeners=ports) as broker:
        kafka = SecureKafka(broker, ports, directory)
        kafka.set_password("recorder", PASSWORD)
        yield kafka


@pytest.fixture
def recorder(secure: SecureKafka, stream: str, tmp_path: Path) -> Iterator[Recorder]:
    with Recorder(secure.broker.bootstrap_servers, stream, tmp_path) as started:
        started.create_topic()
        yield started


TLS_OF_KAFKAS_TOOLS = f"""
security.protocol=SSL
ssl.truststore.type=PEM
ssl.truststore.location={{dir}}/ca.pem
ssl.keystore.type=PEM
ssl.keystore.location={{dir}}/client.pem
ssl.key.password={KEY_PASSWORD}
"""
TLS_OF_LIBRDKAFKA = f"""
security.protocol=ssl
ssl.ca.location={{dir}}/ca.pem
ssl.certificate.location={{dir}}/client.pem
ssl.key.location={{dir}}/client.pem
ssl.key.password={KEY_PASSWORD}
"""
SCRAM_OF_KAFKAS_TOOLS = f"""
security.protocol=SASL_PLAINTEXT
sasl.mechanism=SCRAM-SHA-512
sasl.jaas.config={SCRAM} required \\
  username="recorder" \\
  password="{PASSWORD}";
"""
SCRAM_OVER_TLS = (
    SCRAM_OF_KAFKAS_TOOLS.replace("SASL_PLAINTEXT", "SASL_SSL")
    + """
ssl.truststore.type=PEM
ssl.truststore.location={dir}/ca.pem
ssl.endpoint.identification.algorithm=
"""
)


def start(recorder: Recorder, secure: SecureKafka, protocol: str, config: Path, port: int) -> tuple[Program, Program]:
    """Start ingest and archiver with the most detailed log."""
    flags = ("--bootstrap-servers", secure.servers(protocol), "--kafka-config", str(config), "--log-level", "debug")
    return recorder.ingest(port, *flags), recorder.archiver(*flags)


def assert_no_secrets(*programs: Program) -> None:
    """Check that logs and command lines (`ps`) have no secrets."""
    for program in programs:
        process = Path("/proc", str(program.pid))
        shown = [program.log.encode()]
        shown += [(process / name).read_bytes() for name in ("cmdline", "environ") if process.exists()]
        for secret in (PASSWORD, KEY_PASSWORD, WRONG):
            assert secret.encode() not in b"\n".join(shown)


@pytest.mark.parametrize(
    ("protocol", "text"),
    [
        ("SSL", TLS_OF_KAFKAS_TOOLS),
        ("SSL", TLS_OF_LIBRDKAFKA),
        ("SASL_PLAINTEXT", SCRAM_OF_KAFKAS_TOOLS + "debug=all\n"),
        ("SASL_SSL", SCRAM_OVER_TLS),
    ],
    ids=["client-certificate", "client-certificate-librdkafka", "scram-debug", "scram-over-tls"],
)
def test_a_frame_goes_all_the_way(
    recorder: Recorder, secure: SecureKafka, tmp_path: Path, protocol: str, text: str
) -> None:
    config = secure.file(tmp_path / "client.properties", text)
    with RawSender() as sender:
        programs = start(recorder, secure, protocol, config, sender.port)
        with sender.accept() as connection:
            connection.sendall(scan(1, 2_000_000) + flow(2))
            programs[1].await_line(r"finished .* \(end\): 1 frames")
        assert_no_secrets(*programs)
        assert [program.stop() for program in programs] == [0, 0]
    assert [file.read_bytes() for file in recorder.files()] == [scan(1, 2_000_000)]
    assert_no_secrets(*programs)
    with g3stream.records(recorder.stream, bootstrap_servers=secure.servers(protocol), kafka_config=config) as found:
        assert [it.value for it in found if isinstance(it, g3stream.Record)] == [scan(1, 2_000_000)]


@pytest.mark.parametrize(
    ("protocol", "text"),
    [
        # Not encrypted: Java can't read keys in today's encryption ("PBES2 SecretKeyFactory not available").
        ("SSL", TLS_OF_KAFKAS_TOOLS.replace("client.pem", "open-client.pem").replace("ssl.key.password", "#")),
        ("SASL_SSL", SCRAM_OVER_TLS),
    ],
    ids=["client-certificate", "scram-over-tls"],
)
def test_the_file_is_one_that_kafkas_own_tools_accept(
    secure: SecureKafka, tmp_path: Path, protocol: str, text: str
) -> None:
    config = secure.file(tmp_path / "client.properties", text)
    arguments = f"--bootstrap-server {secure.servers(protocol)} --command-config {config}"
    describe = f"{arguments} --describe --entity-type users --entity-name recorder"
    command = installation().command("kafka.admin.ConfigCommand", *describe.split())
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert "SCRAM-SHA-512" in done.stdout, done.stdout + done.stderr


@pytest.mark.slow
def test_a_wrong_password_is_reported_every_few_seconds_until_it_is_right(
    recorder: Recorder, secure: SecureKafka, stream: str, tmp_path: Path
) -> None:
    config = SCRAM_OF_KAFKAS_TOOLS.replace('"recorder"', f'"{stream}"').replace(PASSWORD, WRONG)
    secure.set_password(stream, PASSWORD)
    with RawSender() as sender:
        programs = start(
            recorder, secure, "SASL_PLAINTEXT", secure.file(tmp_path / "client.properties", config), sender.port
        )
        with sender.accept() as connection:
            connection.sendall(scan(1) + flow(2))
            for program in programs:
                program.await_line(
                    "WARNING .*invalid credentials with SASL mechanism SCRAM-SHA-512.*still trying", count=2
                )
                first, second = program.times_of("invalid credentials")[:2]
                assert 3 < second - first < 15
            assert recorder.records() == []
            secure.set_password(stream, WRONG)
            programs[1].await_line(r"finished .* \(end\): 1 frames")
    assert [file.read_bytes() for file in recorder.files()] == [scan(1)]
    assert_no_secrets(*programs)


@pytest.mark.parametrize("command", ["ingest --stream s", "archiver --data-dir ."])
def test_check_config_names_a_wrong_password_and_shows_none(
    secure: SecureKafka, tmp_path: Path, command: str
) -> None:
    config = secure.file(tmp_path / "client.properties", SCRAM_OF_KAFKAS_TOOLS.replace(PASSWORD, WRONG))
    flags = f"--bootstrap-servers {secure.servers('SASL_PLAINTEXT')} --kafka-config {config} --check-config"
    done = subprocess.run(
        [sys.executable, "-m", *command.split(), *flags.split()],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 1
    assert re.search("FAILED  Kafka at .*invalid credentials with SASL mechanism SCRAM-SHA-512", done.stdout)
    assert WRONG not in done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "cause"),
    [
        (TLS_OF_KAFKAS_TOOLS.replace("/ca.pem", "/other-ca.pem"), "certificate verify failed"),
        (TLS_OF_KAFKAS_TOOLS.replace("ssl.keystore.location", "#"), "alert (bad certificate|certificate required)"),
        ("", "or they require TLS or SASL"),
    ],
    ids=["wrong-ca", "no-client-certificate", "plain"],
)
def test_what_was_received_while_kafka_refused_access_is_recorded_when_the_file_is_corrected(
    recorder: Recorder, secure: SecureKafka, tmp_path: Path, text: str, cause: str
) -> None:
    config = secure.file(tmp_path / "client.properties", text)
    with RawSender() as sender:
        programs = start(recorder, secure, "SSL", config, sender.port)
        with sender.accept() as connection:
            connection.sendall(scan(1))
            for program in programs:
                program.await_line(f"WARNING .*{cause}.*still trying")
            assert_no_secrets(*programs)
            programs[0].kill()
            assert programs[1].stop() == 0
        secure.file(config, TLS_OF_KAFKAS_TOOLS)
        programs = start(recorder, secure, "SSL", config, sender.port)
        with sender.accept() as connection:
            connection.sendall(scan(2) + flow(2))
            programs[1].await_line(r"finished .* \(end\): 1 frames")
    assert [file.read_bytes() for file in recorder.files()] == [scan(1), scan(2)]
    assert "LOST" not in programs[1].log


@pytest.mark.slow
@pytest.mark.parametrize("module", ["ingest", "archiver"])
@pytest.mark.parametrize(
    ("text", "code"),
    [
        (TLS_OF_KAFKAS_TOOLS.replace(KEY_PASSWORD, WRONG), 1),
        (SCRAM_OF_KAFKAS_TOOLS.replace("\\\n", "\n"), 2),
        (f"{SCRAM_OF_KAFKAS_TOOLS}sasl.pasword={WRONG}\n", 1),
        (f"{TLS_OF_KAFKAS_TOOLS}ssl.key.pem={WRONG}\n", 1),
        (f"security.protocol={WRONG}\n", 1),
        (f"sasl.mechanism={WRONG}\nsecurity.protocol=SASL_SSL\n", 1),
        (f"plugin.library.paths={WRONG}\n", 1),
    ],
    ids=["key-password", "broken-line", "misspelt", "no-pem", "no-protocol", "no-mechanism", "no-plugin"],
)
def test_a_file_that_cannot_be_used_ends_it_with_an_error_that_shows_no_secret(
    recorder: Recorder, secure: SecureKafka, tmp_path: Path, module: str, text: str, code: int
) -> None:
    config = ("--kafka-config", str(secure.file(tmp_path / "client.properties", text)), "--log-level", "debug")
    program = recorder.ingest(free_port(), *config) if module == "ingest" else recorder.archiver(*config)
    assert program.exit_code() == code
    assert "error" in program.log.lower()
    assert_no_secrets(program)
    if module == "archiver":
        done = recorder.command("verify", *config)
        assert (done.returncode, done.stdout) == (code, "")
        assert WRONG not in done.stderr
        assert PASSWORD not in done.stderr
