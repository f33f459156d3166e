"""Translation of Kafka's `client.properties`, the file for its own tools, into librdkafka's settings.

TLS and SASL settings have other names in librdkafka than in Java, and librdkafka can't read Java keystores. A setting
that has an exact equivalent is translated; any other TLS or SASL setting is refused, with what to write instead. If a
file has both names, for Kafka's tools and for this program, librdkafka's win. No message contains a value: it may be
secret.
"""

import os
import re
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path

from g3stream.host.small_file import read_small_file

_NAME = re.compile(r"[a-z][a-z0-9]*(\.[a-z0-9-]+)+|acks|debug|partitioner|retries")
_LINE = re.compile(r"([^\s=:]*)\s*[=:]\s*(.*)", re.DOTALL)
_PIECES = re.compile(r"[\s,;=]+")
_NOT_SECRET = frozenset(
    ("", "true", "false", "SSL", "SASL", "PLAIN", "PLAINTEXT", "SASL_SSL", "SASL_PLAINTEXT", "PEM")
)
"""Values that also occur in messages as ordinary words, and so are not redacted."""
_ESCAPE = re.compile(r"\\(u[0-9A-Fa-f]{4}|.)", re.DOTALL)
_ESCAPED_CHARACTERS = {"t": "\t", "n": "\n", "r": "\r", "f": "\f"}

_VALUE = r'("(?:[^"\\]|\\.)*"|[A-Za-z_$][\w$.-]*)'
_JAAS_OPTION = re.compile(rf"\s+(\w+)\s*=\s*{_VALUE}")
_JAAS = re.compile(
    rf"\s*([\w.]+)\s+(?:required|requisite|sufficient|optional)((?:\s+\w+\s*=\s*{_VALUE})*)\s*;\s*", re.IGNORECASE
)
_LOGIN_MODULES = {
    "org.apache.kafka.common.security.scram.ScramLoginModule",
    "org.apache.kafka.common.security.plain.PlainLoginModule",
}

_PEM_BLOCK = re.compile(r"-----BEGIN ([A-Z ]+)-----([A-Za-z0-9+/=\s]+)-----END \1-----")

_RESERVED_SETTINGS = frozenset(
    (
        # The guarantee of nothing lost and nothing duplicated depends on these.
        *("acks", "request.required.acks", "enable.idempotence", "enable.gapless.guarantee", "transactional.id"),
        *("message.timeout.ms", "delivery.timeout.ms", "retries", "message.send.max.retries"),
        *("enable.auto.commit", "auto.commit.enable", "enable.auto.offset.store", "auto.offset.reset"),
        *("group.id", "group.instance.id", "group.protocol", "partition.assignment.strategy"),
        "default.topic.config",  # could set them too
    )
)


class ClientPropertiesError(ValueError):
    """The file can't be used; the message says where and why, without values."""


def read_client_properties(path: Path) -> dict[str, str]:
    """Return librdkafka's settings from a file of Kafka client properties. Raises ClientPropertiesError.

    The file is a Java properties file in UTF-8: `#` and `!` begin comments; a backslash at a line's end continues it
    on the next line, and elsewhere begins an escape.
    """
    try:
        text = read_small_file(path).decode().replace("\r\n", "\n").replace("\r", "\n")
        return translate_properties(dict(_parse(text)))
    except OSError as error:
        raise ClientPropertiesError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ClientPropertiesError(f"{path}: not UTF-8, at byte {error.start}") from None
    except ClientPropertiesError as error:
        raise ClientPropertiesError(f"{path}, {error}") from None


def redact_values(text: str, properties: Mapping[str, str]) -> str:
    """Return librdkafka's message about refused settings, without the values of `properties` that it quotes."""
    values = {piece for value in properties.values() for piece in (value, value.strip(), *_PIECES.split(value))}
    for value in sorted(values - _NOT_SECRET, key=len, reverse=True):
        text = re.sub(rf"(?<![\w.]){re.escape(value)}(?!\w)", "…", text)
    # Quoted text that is no setting's name may be a value in another form, such as a number out of range.
    text = re.sub(r"(?<=value )-?\d+(?= is outside)", "…", text)
    return re.sub(r'"([^"]*)"', lambda quoted: quoted[0] if _NAME.fullmatch(quoted[1]) else '"…"', text).strip()


def translate_properties(properties: Mapping[str, str]) -> dict[str, str]:
    """Return the settings by librdkafka's names, unchanged except TLS and SASL. Raises ClientPropertiesError."""
    found = dict(properties)
    for name in sorted(_RESERVED_SETTINGS.intersection(found)):
        raise ClientPropertiesError(f"{name}: the recorder sets this itself; remove the line")
    _translate_truststore(found)
    _translate_keystore(found)
    _translate_jaas(found)
    if "ssl.endpoint.identification.algorithm" in found:
        # In Java an empty value means none.
        algorithm = found["ssl.endpoint.identification.algorithm"].lower()
        found["ssl.endpoint.identification.algorithm"] = algorithm or "none"
    for name in ("ssl.ca.location", "ssl.certificate.location", "ssl.key.location", "ssl.keystore.location"):
        # librdkafka's own message for a missing file is "BIO lib".
        if (place := found.get(name, "probe")) != "probe" and not os.access(place, os.R_OK):
            raise ClientPropertiesError(f"{name}: {place} doesn't exist, or can't be read")
    return found


def _parse(text: str) -> Iterator[tuple[str, str]]:
    for number, line in _logical_lines(text):
        match = _LINE.fullmatch(line)
        if match is None or not match[1]:
            raise ClientPropertiesError(f"line {number}: not key=value")
        if not _NAME.fullmatch(match[1]):
            # Not quoted: it may be part of a secret that was broken into two lines.
            raise ClientPropertiesError(f"line {number}: the text before the = is not a Kafka client setting")
        yield match[1], _unescape(match[2], f"line {number}").strip()


def _logical_lines(text: str) -> Iterator[tuple[int, str]]:
    """Yield each line, joined with its continuations, and its number; comments and empty lines are skipped."""
    lines = iter(enumerate(text.split("\n"), 1))
    for number, line in lines:
        whole = line.strip()
        if not whole or whole[0] in "#!":
            continue
        while _is_continued(whole):
            _, more = next(lines, (0, ""))
            whole = whole[:-1] + more.strip()
        yield number, whole


def _is_continued(line: str) -> bool:
    return (len(line) - len(line.rstrip("\\"))) % 2 == 1


def _unescape(text: str, where: str) -> str:
    def replace(match: re.Match[str]) -> str:
        escaped = match[1]
        if len(escaped) == 5:
            return chr(int(escaped[1:], 16))
        if escaped in _ESCAPED_CHARACTERS or not escaped.isalnum():
            return _ESCAPED_CHARACTERS.get(escaped, escaped)
        # Java drops such a backslash; most likely its author meant one.
        raise ClientPropertiesError(f"{where}: a backslash begins an escape here; write \\\\ for a backslash")

    try:
        return _ESCAPE.sub(replace, text).encode("utf-16", "surrogatepass").decode("utf-16")
    except UnicodeError:
        raise ClientPropertiesError(f"{where}: half a surrogate pair (\\ud800 to \\udfff)") from None


def _translate_jaas(found: dict[str, str]) -> None:
    config = found.pop("sasl.jaas.config", None)
    if config is None or "sasl.username" in found:
        return
    match = _JAAS.fullmatch(config)
    if match is None:
        raise ClientPropertiesError(
            'sasl.jaas.config: not of the form MODULE required username="…" password="…"; '
            "instead of it, you can write sasl.username= and sasl.password="
        )
    if match[1] not in _LOGIN_MODULES:
        raise ClientPropertiesError(
            "sasl.jaas.config: only ScramLoginModule and PlainLoginModule are supported; write the settings of "
            "other mechanisms by librdkafka's names, sasl.oauthbearer.…"
        )
    options = {name: _jaas_value(value) for name, value in _JAAS_OPTION.findall(match[2])}
    if options.keys() != {"username", "password"}:
        raise ClientPropertiesError("sasl.jaas.config: needs a username and a password, and nothing else")
    found["sasl.username"], found["sasl.password"] = options["username"], options["password"]


def _jaas_value(text: str) -> str:
    return _unescape(text[1:-1], "sasl.jaas.config") if text[0] == '"' else text


def _translate_truststore(found: dict[str, str]) -> None:
    store = _pop_settings(found, "ssl.truststore.", ("type", "location", "password", "certificates"))
    if "ssl.ca.location" in found or "ssl.ca.pem" in found:
        return
    if "certificates" in store:
        found["ssl.ca.pem"] = _wrap_pem(store["certificates"])
    elif "location" in store:
        if (kind := _keystore_kind("ssl.truststore.location", store["location"])) != "PEM":
            raise ClientPropertiesError(
                f"ssl.truststore.location: a {kind} store, which librdkafka can't read; write ssl.ca.location=ca.pem "
                f"beside it, a file with the CA's certificates in PEM, made with keytool -exportcert -rfc"
            )
        found["ssl.ca.location"] = store["location"]


def _translate_keystore(found: dict[str, str]) -> None:
    store = _pop_settings(found, "ssl.keystore.", ("type", "location", "password", "key", "certificate.chain"))
    if not found.keys().isdisjoint(("ssl.certificate.location", "ssl.certificate.pem")):
        return
    if "key" in store or "certificate.chain" in store:
        chain = _wrap_pem(store.get("certificate.chain", ""))
        if chain.count("-----BEGIN") > 1:
            raise ClientPropertiesError(
                "ssl.keystore.certificate.chain: librdkafka would send only the first certificate; write key and "
                "chain into a file: ssl.keystore.type=PEM and ssl.keystore.location=client.pem"
            )
        found["ssl.certificate.pem"], found["ssl.key.pem"] = chain, _wrap_pem(store.get("key", ""))
    elif "location" in store:
        kind = _keystore_kind("ssl.keystore.location", store["location"])
        if kind == "JKS":
            raise ClientPropertiesError(
                "ssl.keystore.location: a JKS store, which librdkafka can't read; name one that it can, made with "
                "keytool -importkeystore -srckeystore client.jks -destkeystore client.p12 -deststoretype PKCS12"
            )
        if kind == "PEM":
            found["ssl.certificate.location"] = found["ssl.key.location"] = store["location"]
        else:
            found["ssl.keystore.location"] = store["location"]
            if "password" in store:
                found["ssl.keystore.password"] = store["password"]


def _pop_settings(found: dict[str, str], prefix: str, names: tuple[str, ...]) -> dict[str, str]:
    """Remove these settings from `found`; return those that aren't empty."""
    removed = {name: found.pop(prefix + name, "") for name in names}
    return {name: value for name, value in removed.items() if value}


def _keystore_kind(name: str, path: str) -> str:
    """Return PEM, PKCS#12 or JKS, by the file's content: the type setting may be wrong, as in Java."""
    try:
        data = read_small_file(Path(path))
    except OSError as error:
        raise ClientPropertiesError(f"{name}: {path}: {error.strerror}") from None
    if b"-----BEGIN " in data:
        return "PEM"
    if data[:4] in (b"\xfe\xed\xfe\xed", b"\xce\xce\xce\xce"):
        return "JKS"
    if data[:1] == b"\x30":
        return "PKCS#12"
    raise ClientPropertiesError(f"{name}: {path} contains neither PEM nor a keystore")


def _wrap_pem(pem: str) -> str:
    """Return PEM as OpenSSL reads it: in a properties file its line ends may be spaces, which Java accepts."""
    blocks = _PEM_BLOCK.findall(pem)
    if len(blocks) != pem.count("-----BEGIN "):
        return pem
    lines = []
    for kind, body in blocks:
        lines += [f"-----BEGIN {kind}-----", *textwrap.wrap("".join(body.split()), 64), f"-----END {kind}-----"]
    return "".join(f"{line}\n" for line in lines)
