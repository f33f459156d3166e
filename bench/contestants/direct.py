"""The recorder without Kafka: spt3g's reader and writer, and nothing between. `python -m bench.contestants.direct
PORT FILE`

Each frame is handed to the kernel as soon as it is there, as for someone who watches the file.
"""

import sys

from spt3g import core


def main() -> None:
    """As the module says, until the sender closes."""
    reader = core.G3Reader(f"tcp://127.0.0.1:{sys.argv[1]}")
    writer = core.G3Writer(sys.argv[2])
    while frames := reader.Process(None):
        for frame in frames:
            writer.Process(frame)
        writer.flush()


if __name__ == "__main__":
    main()
