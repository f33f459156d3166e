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

WITHOUT_SPT3G = """
import sys
sys.modules["spt3g"] = None  # as if it weren't installed
import g3stream
try:
    g3stream.frames("crate1slot2")
except ImportError as error:
    assert "extra [spt3g]" in str(error), error
else:
    raise AssertionError
"""


def test_all_public_names_are_there() -> None:
    for name in client.__all__:
        assert getattr(g3stream, name) is getattr(client, name)


def test_what_is_not_needed_is_not_loaded() -> None:
    subprocess.run([sys.executable, "-c", LOADED], check=True)


def test_frames_without_spt3g_say_what_to_install() -> None:
    subprocess.run([sys.executable, "-c", WITHOUT_SPT3G], check=True)
