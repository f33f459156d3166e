"""A recorder without Kafka: only spt3g's reader and writer. `python -m bench.contestants.direct PORT FILE`

Each frame is written as soon as it is received, so that it is readable in the file.
"""

import sys

from spt3g import core


def main() -> None:
    """Record until the sender disconnects."""
    reader = core.G3Reader(f"tcp://127.0.0.1:{sys.argv[1]}")
    writer = core.G3Writer(sys.argv[2])
    while frames := reader.Process(None):
        for frame in frames:
            writer.Process(frame)
        writer.flush()


if __name__ == "__main__":
    main()
