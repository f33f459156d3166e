"""A sender that costs nothing: ready bytes into a socket. `python -m bench.sender FILE [FIRST]`

Prints its port, takes one client, sends it the bytes of FIRST; then for each line from stdin, a number, those of FILE
so many times. It closes when stdin does.
"""

import socket
import sys
from pathlib import Path

_SEND_BYTES = 4_000_000


def main() -> None:
    """As the module says."""
    unit = Path(sys.argv[1]).read_bytes()
    first = Path(sys.argv[2]).read_bytes() if len(sys.argv) > 2 else b""
    per_send = max(1, _SEND_BYTES // len(unit))
    bunch = unit * per_send
    with socket.create_server(("127.0.0.1", 0)) as server:
        print(server.getsockname()[1], flush=True)
        client, _ = server.accept()
        with client:
            client.sendall(first)
            for line in sys.stdin:
                times = int(line)
                for _ in range(times // per_send):
                    client.sendall(bunch)
                client.sendall(unit * (times % per_send))


if __name__ == "__main__":
    main()
