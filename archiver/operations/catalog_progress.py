"""Shows how much of g3.files was read into a catalog, if it is much."""

from contextlib import ExitStack
from typing import Self

from archiver.console.progress import Progress

_MANY = 20_000
"""Records of g3.files: reading more takes longer than a second."""


class CatalogProgress:
    """A context manager; its `update` is for CatalogUpdater."""

    def __init__(self) -> None:
        self._shown = ExitStack()
        self._bar: Progress | None = None

    def update(self, done: int, total: int, size: int) -> None:
        """Show that so many records are read, of `total`, with `size` bytes."""
        if self._bar is None and total > _MANY:
            self._bar = self._shown.enter_context(Progress())
            self._bar.start("g3.files", total)
        if self._bar:
            self._bar.update("g3.files", done, size)

    def end(self) -> None:
        """Show no more of this; a later `update` may be about another one."""
        self._shown.close()
        self._bar = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()
