"""Kafka's `client.properties`, the file that its own tools take, as settings of librdkafka.

TLS and SASL have other names there than in Java, and librdkafka reads no Java keystore. What can be said exactly in
librdkafka's names is translated, anything else about TLS and SASL is refused with what to write instead. Where a file
has both names, for Kafka's tools and for us, librdkafka's win. No message here says a value: it may be a secret.
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
"""Values that messages hold as words of their own."""
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
        # "Nothing lost, nothing twice" rests on these.
        *("acks", "request.required.acks", "enable.idempotence", "enable.gapless.guarantee", "transactional.id"),
        *("message.timeout.ms", "delivery.timeout.ms", "retries", "message.send.max.retries"),
        *("enable.auto.commit", "auto.commit.enable", "enable.auto.offset.store", "auto.offset.reset"),
        *("group.id", "group.instance.id", "group.protocol", "partition.assignment.strategy"),
        "default.topic.config",  # a way around them
    )
)


class ClientPropertiesError(ValueError):
    """The file can't be used; the message says where and why, and no value."""


def read_client_properties(path: Path) -> dict[str, str]:
    """Settings for librdkafka from a file of Kafka client properties. Raises ClientPropertiesError.

    The file is a Java properties file in UTF-8: `#` and `!` begin comments, a backslash at a line's end goes on with
    the next line, and elsewhere escapes.
    """
    try:
        text = read_small_file(path).decode().replace("\r\n", "\n").replace("\r", "\n")
    except OSError as error:
        raise ClientPropertiesError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ClientPropertiesError(f"{path}: not UTF-8, at byte {error.start}") from None
    try:
        return translate_properties(dict(_parse(text)))
    except ClientPropertiesError as error:
        raise ClientPropertiesError(f"{path}, {error}") from None


def redact_values(text: str, properties: Mapping[str, str]) -> str:
    """What librdkafka says of settings that it doesn't take, without the values of `properties` that it quotes."""
    values = {piece for value in properties.values() for piece in (value, value.strip(), *_PIECES.split(value))}
    for value in sorted(values - _NOT_SECRET, key=len, reverse=True):
        text = re.sub(rf"(?<![\w.]){re.escape(value)}(?!\w)", "…", text)
    # What it quotes, and isn't a setting's name, may be a value in another form: a number that didn't fit, say.
    text = re.sub(r"(?<=value )-?\d+(?= is outside)", "…", text)
    return re.sub(r'"([^"]*)"', lambda quoted: quoted[0] if _NAME.fullmatch(quoted[1]) else '"…"', text).strip()


def translate_properties(properties: Mapping[str, str]) -> dict[str, str]:
    """The same by librdkafka's names; others than those of TLS and SASL as they are. Raises ClientPropertiesError."""
    found = dict(properties)
    for name in sorted(_RESERVED_SETTINGS.intersection(found)):
        raise ClientPropertiesError(f"{name}: the recorder sets this itself; take the line out")
    _translate_truststore(found)
    _translate_keystore(found)
    _translate_jaas(found)
    if "ssl.endpoint.identification.algorithm" in found:
        # In Java no algorithm is none.
        algorithm = found["ssl.endpoint.identification.algorithm"].lower()
        found["ssl.endpoint.identification.algorithm"] = algorithm or "none"
    for name in ("ssl.ca.location", "ssl.certificate.location", "ssl.key.location", "ssl.keystore.location"):
        # librdkafka's own word for a missing file is "BIO lib".
        if (place := found.get(name, "probe")) != "probe" and not os.access(place, os.R_OK):
            raise ClientPropertiesError(f"{name}: {place} is not there, or can't be read")
    return found


def _parse(text: str) -> Iterator[tuple[str, str]]:
    for number, line in _logical_lines(text):
        match = _LINE.fullmatch(line)
        if match is None or not match[1]:
            raise ClientPropertiesError(f"line {number}: not key=value")
        if not _NAME.fullmatch(match[1]):
            # Not quoted: it may be a piece of a secret that was broken into two lines.
            raise ClientPropertiesError(f"line {number}: what is before the = is no name of a Kafka client setting")
        yield match[1], _unescape(match[2], f"line {number}").strip()


def _logical_lines(text: str) -> Iterator[tuple[int, str]]:
    """Lines with their continuations, each with the number of its first; without comments and empty ones."""
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
    def meant(match: re.Match[str]) -> str:
        what = match[1]
        if len(what) == 5:
            return chr(int(what[1:], 16))
        if what in _ESCAPED_CHARACTERS or not what.isalnum():
            return _ESCAPED_CHARACTERS.get(what, what)
        # Java drops such a backslash; whoever wrote it most likely meant one.
        raise ClientPropertiesError(f"{where}: a backslash escapes here; write \\\\ where one is meant")

    try:
        return _ESCAPE.sub(meant, text).encode("utf-16", "surrogatepass").decode("utf-16")
    except UnicodeError:
        raise ClientPropertiesError(f"{where}: half a character (\\ud800 to \\udfff)") from None


def _translate_jaas(found: dict[str, str]) -> None:
    config = found.pop("sasl.jaas.config", None)
    if config is None or "sasl.username" in found:
        return
    match = _JAAS.fullmatch(config)
    if match is None:
        raise ClientPropertiesError(
            'sasl.jaas.config: not of the form MODULE required username="…" password="…"; '
            "instead of it, sasl.username= and sasl.password= may be written"
        )
    if match[1] not in _LOGIN_MODULES:
        raise ClientPropertiesError(
            "sasl.jaas.config: only ScramLoginModule and PlainLoginModule are understood; write the settings of "
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
                "ssl.keystore.certificate.chain: librdkafka would send the first certificate alone; write key and "
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
    """Take these settings out; gives those that say something."""
    taken = {name: found.pop(prefix + name, "") for name in names}
    return {name: value for name, value in taken.items() if value}


def _keystore_kind(name: str, path: str) -> str:
    """PEM, PKCS#12 or JKS, by what is in the file: in Java too, the type said need not be the true one."""
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
    raise ClientPropertiesError(f"{name}: {path} holds neither PEM nor a keystore")


def _wrap_pem(pem: str) -> str:
    """PEM as OpenSSL reads it; in a line of properties, which Java reads too, it may have spaces for line ends."""
    blocks = _PEM_BLOCK.findall(pem)
    if len(blocks) != pem.count("-----BEGIN "):
        return pem
    lines = []
    for kind, body in blocks:
        lines += [f"-----BEGIN {kind}-----", *textwrap.wrap("".join(body.split()), 64), f"-----END {kind}-----"]
    return "".join(f"{line}\n" for line in lines)
