"""Whether the command in this container is well, for Docker's HEALTHCHECK: what its /healthz says.

Exit code 0 if it is well, or has no --http to ask; else 1. The reasons go to stdout, where `docker inspect` has them.
It runs every few seconds beside the recording, by `python -IS`, so it imports as little as it can: 30 ms of CPU time.
"""

import os
import socket
import sys

_VARIABLES = ("INGEST_HTTP", "ARCHIVER_HTTP")
_SECONDS = 4.0
_MOST_BYTES = 8192


def address(http: str) -> tuple[str, int]:
    """Where to ask a command that has this `--http [HOST:]PORT`: here, if it listens on all addresses."""
    host, _, port = http.rpartition(":")
    host = host.strip("[]")
    return ("127.0.0.1" if host in ("", "0.0.0.0") else "::1" if host == "::" else host), int(port)  # noqa: S104 - asks, doesn't bind


def ask(host: str, port: int) -> tuple[bool, str]:
    """Whether it answers 200, and the text of the answer. Raises OSError."""
    answer = b""
    with socket.create_connection((host, port), _SECONDS) as connection:
        connection.sendall(f"GET /healthz HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\n\r\n".encode())
        while len(answer) < _MOST_BYTES and (more := connection.recv(_MOST_BYTES)):
            answer += more
    head, _, text = answer.partition(b"\r\n\r\n")
    return head.split(b" ")[1:2] == [b"200"], text.decode(errors="replace").strip()


def main() -> int:
    """Ask, say the answer, and give the exit code."""
    http = next((given for name in _VARIABLES if (given := os.environ.get(name))), None)
    if http is None:
        print(f"not known: neither {' nor '.join(_VARIABLES)} is set")
        return 0
    try:
        well, text = ask(*address(http))
    except (OSError, ValueError) as error:
        print(f"no answer at {http}: {error}")
        return 1
    print(text or "an empty answer")
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main())
