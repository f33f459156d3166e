"""What `import g3stream` gives, and what it doesn't load."""

import subprocess
import sys

import g3stream
from g3stream import client

LOADED = """
import sys, g3stream
assert "confluent_kafka" not in sys.modules, "those who need the contract only have no Kafka client"
g3stream.records
assert "confluent_kafka" in sys.modules
assert "spt3g" not in sys.modules, "bytes need no spt3g"
g3stream.__version__
assert not hasattr(g3stream, "nonsense")
"""


def test_all_public_names_are_there() -> None:
    for name in client.__all__:
        assert getattr(g3stream, name) is getattr(client, name)


def test_what_is_not_needed_is_not_loaded() -> None:
    subprocess.run([sys.executable, "-c", LOADED], check=True)
