"""What is there before a page's first command."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Final

from testbed.kafka.broker import Broker
from tests.docs.night import night, observation
from tests.docs.site import PORT, Site


@dataclass(frozen=True, slots=True)
class SetUp:
    """A set-up: the block of `prepare` lasts while its pages are executed. shared: by all pages that have it."""

    prepare: Callable[[Site], AbstractContextManager[None]]
    shared: bool = False


@contextmanager
def _nothing(site: Site) -> Iterator[None]:
    assert site
    yield


@contextmanager
def _broker(site: Site) -> Iterator[None]:
    with Broker(site.root / "kafka", PORT):
        yield


NOTHING: Final = SetUp(_nothing, shared=True)
"""No broker: for a page that starts its own at port 9092, or needs none."""
A_BARE_MACHINE: Final = SetUp(_nothing)
"""The same, for a page alone: what its programs leave is in the way of no other page."""
EMPTY: Final = SetUp(_broker)
"""A broker with nothing on it."""
NIGHT: Final = SetUp(night, shared=True)
"""The night of night.py is in Kafka and in /data; no program of ours runs. Its pages only look."""
A_NIGHT_TO_CHANGE: Final = SetUp(night)
"""The same, for a page alone."""
OBSERVATION: Final = SetUp(observation)
"""An observation of three minutes, with frames made by so3g; like NIGHT."""

SET_UPS: Final[Mapping[str, SetUp]] = {
    "README.md": A_BARE_MACHINE,
    "docs/analyse/again.md": A_NIGHT_TO_CHANGE,
    "docs/analyse/catalog.md": NIGHT,
    "docs/analyse/client.md": NIGHT,
    "docs/analyse/files.md": NIGHT,
    "docs/analyse/find.md": NIGHT,
    "docs/analyse/names.md": NIGHT,
    "docs/analyse/read.md": OBSERVATION,
    "docs/analyse/whole.md": NIGHT,
    "docs/operate/first-night.md": NOTHING,
    "docs/operate/kafka-rights.md": NOTHING,
    "docs/operate/maintenance.md": A_NIGHT_TO_CHANGE,
    "docs/operate/page.md": NIGHT,
    "docs/operate/quicklook.md": NIGHT,
    "docs/operate/relay.md": NIGHT,
    "docs/operate/second-site.md": NIGHT,
    "docs/operate/systemd.md": NOTHING,
    "docs/start/from-nothing.md": A_BARE_MACHINE,
    "docs/reference/g3.files.md": NIGHT,
}
"""Each page's set-up, by its path in the repository; EMPTY if it isn't here."""


def set_up_of(page: str) -> SetUp:
    """Return a page's set-up."""
    return SET_UPS.get(page, EMPTY)
