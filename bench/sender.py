"""A sender that costs nothing: ready bytes into a socket. `python -m bench.sender FILE TIMES FIRST_HEX`

Prints its port, takes one client, sends it FIRST; on a line from stdin the file TIMES times; closes when stdin does.
"""

import socket
import sys
from pathlib import Path


def main() -> None:
    """As the module says."""
    frame = Path(sys.argv[1]).read_bytes()
    frames = int(sys.argv[2])
    per_send = max(1, 4_000_000 // len(frame))
    bunch = frame * per_send
    with socket.create_server(("127.0.0.1", 0)) as server:
        print(server.getsockname()[1], flush=True)
        client, _ = server.accept()
        with client:
            client.sendall(bytes.fromhex(sys.argv[3]) if len(sys.argv) > 3 else b"")
            sys.stdin.readline()
            for _ in range(frames // per_send):
                client.sendall(bunch)
            client.sendall(frame * (frames % per_send))
            sys.stdin.read()


if __name__ == "__main__":
    main()
