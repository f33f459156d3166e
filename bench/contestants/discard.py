"""Reads a socket and forgets what came. `python -m bench.contestants.discard PORT BYTES`

Prints `ready` when it is connected, and `done` when so many bytes have come.
"""

import socket
import sys


def main() -> None:
    """As the module says."""
    left = int(sys.argv[2])
    buffer = bytearray(1 << 20)
    with socket.create_connection(("127.0.0.1", int(sys.argv[1]))) as sender:
        print("ready", flush=True)
        while left > 0:
            count = sender.recv_into(buffer)
            if not count:
                raise SystemExit(f"the sender closed with {left} bytes to come")
            left -= count
    print("done", flush=True)


if __name__ == "__main__":
    main()
