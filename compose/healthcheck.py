"""Docker's HEALTHCHECK: whether the command in this container is healthy, as its /healthz reports.

Exit code 0 if it is healthy, or has no --http to query; else 1. The reasons go to stdout, for `docker inspect`. It
runs every few seconds beside the recording, by `python -IS`, so it imports as little as possible: 30 ms of CPU time.
"""

import os
import socket
import sys

_VARIABLES = ("INGEST_HTTP", "ARCHIVER_HTTP", "ARCHIVER_WEB_HTTP")
_TIMEOUT_SECONDS = 4.0
_MAX_BYTES = 8192


def address(http: str) -> tuple[str, int]:
    """The address of a command with this `--http [HOST:]PORT`: the loopback one, if it listens on all."""
    host, _, port = http.rpartition(":")
    host = host.strip("[]")
    return ("127.0.0.1" if host in ("", "0.0.0.0") else "::1" if host == "::" else host), int(port)  # noqa: S104 - asks, doesn't bind


def request_health(host: str, port: int) -> tuple[bool, str]:
    """Query /healthz. Returns whether the response is 200, and its text. Raises OSError."""
    answer = b""
    with socket.create_connection((host, port), _TIMEOUT_SECONDS) as connection:
        connection.sendall(f"GET /healthz HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\n\r\n".encode())
        while len(answer) < _MAX_BYTES and (more := connection.recv(_MAX_BYTES)):
            answer += more
    head, _, text = answer.partition(b"\r\n\r\n")
    return head.split(b" ")[1:2] == [b"200"], text.decode(errors="replace").strip()


def main() -> int:
    """Query it and print the response. Returns the exit code."""
    http = next((given for name in _VARIABLES if (given := os.environ.get(name))), None)
    if http is None:
        print(f"not known: none of {', '.join(_VARIABLES)} is set")
        return 0
    try:
        healthy, text = request_health(*address(http))
    except (OSError, ValueError) as error:
        print(f"no answer at {http}: {error}")
        return 1
    print(text or "an empty response")
    return 0 if healthy else 1


if __name__ == "__main__":
    sys.exit(main())
