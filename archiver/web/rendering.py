"""Renders the templates. Every value in them is escaped; nothing of a stream's is markup."""

from collections.abc import Mapping
from typing import Any, Final

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from archiver.web.now.view import NowView

FRAGMENTS: Final = ("clock", "verdict", "sums", "streams", "archivers")
"""The parts of the page of the present that /live replaces; each is an element with this id."""


class Renderer:
    """Renders pages of a group's archive. For any thread."""

    def __init__(self, group: str, *, has_quicklook: bool = False) -> None:
        """has_quicklook: whether streams link to their quick looks."""
        self._templates = Environment(
            loader=PackageLoader("archiver.web"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates.globals["group"] = group
        self._templates.globals["has_quicklook"] = has_quicklook

    def page(self, template: str, page: str, **values: Any) -> str:
        """Return a page. page: the link of the head that is the present one; empty if none is."""
        return self._templates.get_template(template).render(page=page, **values)

    def fragments(self, view: NowView) -> Mapping[str, Markup]:
        """Return the parts of the page of the present."""
        return {
            name: Markup(self._templates.get_template(f"now/{name}.html").render(view=view))  # noqa: S704 - rendered
            for name in FRAGMENTS
        }
