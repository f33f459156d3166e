"""A reader that discards what it receives. `python -m bench.contestants.discard PORT BYTES`

Prints `ready` when it is connected, and `done` when it has received that many bytes.
"""

import socket
import sys


def main() -> None:
    """Receive and discard the bytes."""
    left = int(sys.argv[2])
    buffer = bytearray(1 << 20)
    with socket.create_connection(("127.0.0.1", int(sys.argv[1]))) as sender:
        print("ready", flush=True)
        while left > 0:
            count = sender.recv_into(buffer)
            if not count:
                raise SystemExit(f"the sender disconnected; {left} bytes are missing")
            left -= count
    print("done", flush=True)


if __name__ == "__main__":
    main()
