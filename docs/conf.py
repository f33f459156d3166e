"""The site's settings for Sphinx: `make docs` builds it in build/site, with each warning an error."""

import inspect
import re
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

from pygments.lexers.special import TextLexer
from sphinx.application import Sphinx

project = "g3-recorder"
author = "the g3-recorder developers"
copyright = "the g3-recorder developers"  # noqa: A001 - Sphinx's name
release = metadata.version("g3-recorder")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx_copybutton", "sphinxarg.ext"]
# It would make a dash of a flag's two hyphens.
smartquotes = False
nitpicky = True
# Names in signatures that have no page of their own here.
nitpick_ignore_regex = [("py:.*", r".*")]

# Headings have the anchors that Git hosts give them, so links work there, too.
myst_heading_anchors = 4
myst_enable_extensions = ["attrs_block", "colon_fence", "deflist"]

html_theme = "furo"
# Between two releases without the commit, which would fill three lines.
html_title = f"g3-recorder {release.partition('+')[0]}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
copybutton_prompt_text = "$ "
copybutton_only_copy_prompt_lines = True
# A reader without a network has all of the site.
html_copy_source = False

# `make docs` checks the links within the site; `sphinx-build -b linkcheck docs build/links` those to elsewhere.
linkcheck_timeout = 20


def setup(app: Sphinx) -> None:
    """Add languages of code blocks that nothing highlights, and what is generated."""
    app.connect("source-read", _add_commands)
    app.connect("autodoc-process-docstring", _list_arguments)
    for language in ("digest", "hex", "invalid", "messages"):
        app.add_lexer(language, TextLexer)


def _add_commands(app: Sphinx, page: str, source: list[str]) -> None:
    """Add all commands, from their parsers, to the page of commands."""
    if page == "reference/commands":
        sys.path.insert(0, str(Path(app.srcdir).parent / "packaging"))
        from commands_page import commands_page

        source[0] += commands_page()


def _list_arguments(_app: Sphinx, _what: str, _name: str, described: Any, _options: Any, lines: list[str]) -> None:
    """Make a list of the arguments that our docstrings describe in a paragraph: `since: where to begin. last: …`."""
    if not inspect.isroutine(described):
        return
    known = "|".join(inspect.signature(described).parameters)
    argument = re.compile(rf"(?:(?<=\. )|(?<=\n)|^)((?:{known})(?:, (?:{known}))*): ")
    text = "\n".join(lines)
    for paragraph in text.split("\n\n"):
        flowing = paragraph.replace("\n", " ").strip()
        if argument.match(flowing):
            text = text.replace(paragraph, argument.sub(r"\n- ``\1``: ", flowing).lstrip("\n"))
    lines[:] = text.split("\n")
