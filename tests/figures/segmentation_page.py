"""What docs/understand/segmentation.md shows of the code."""

from collections.abc import Callable, Mapping
from functools import partial

from tests.figures import segmentation_example, segmentation_table
from tests.figures.segmentation_states import states_drawing

PICTURES: Mapping[str, Callable[[], str]] = {
    "states.svg": states_drawing,
    "example.svg": segmentation_example.timeline_drawing,
}
"""By name of the file in docs/understand/segmentation/."""

TABLES: Mapping[str, Callable[[], str]] = {
    "what a record does": segmentation_table.markdown,
    "what a frame does that is sent again": partial(segmentation_table.markdown, by_session=True),
    "the example's files": segmentation_example.markdown,
    "the example's names": segmentation_example.names_markdown,
}
"""By what they say; each is in the page, as it is."""
