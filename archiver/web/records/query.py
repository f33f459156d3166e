"""What a request asks for: the parameters of its URL, checked. Pure."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Final
from urllib.parse import urlencode

from archiver.catalog.recorded import Search
from archiver.web.records.night_view import night_window
from archiver.web.records.timeline import Window
from g3stream.contract.topics import ContractError, stream_name
from g3stream.host.times import parse_time

_MAX_TEXT: Final = 60
_INTEGER: Final = re.compile(r"[0-9]{1,18}")
_DATE: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_SHORTEST_MS: Final = 60_000
_MAX_PAGE: Final = 100_000


class BadQueryError(ValueError):
    """A parameter of the URL can't be understood; the message says which one, and what is valid."""


@dataclass(frozen=True, slots=True)
class FileQuery:
    """A search for files: its parameters as typed, and what they mean."""

    stream: str
    session: str
    since: str
    until: str
    missing: bool
    page: int
    search: Search

    def url(self, base: str, page: int) -> str:
        """Return the URL of a page of what is found. base: its path."""
        given = {"stream": self.stream, "session": self.session, "since": self.since, "until": self.until}
        parameters = {name: value for name, value in given.items() if value}
        if self.missing:
            parameters["missing"] = "1"
        if page > 1:
            parameters["page"] = str(page)
        return base + ("?" + urlencode(parameters) if parameters else "")


def file_query(parameters: Mapping[str, str], now_ms: int) -> FileQuery:
    """Return the search that a URL's parameters ask for. now_ms: since the epoch. Raises BadQueryError."""
    texts = {name: parameters.get(name, "").strip() for name in ("stream", "session", "since", "until")}
    for name, text in texts.items():
        if len(text) > _MAX_TEXT + 10:
            raise BadQueryError(f"{name} is too long")
    page = _integer("page", parameters.get("page", "") or "1")
    if not 1 <= page <= _MAX_PAGE:
        raise BadQueryError(f"page must be from 1 to {_MAX_PAGE}")
    missing = parameters.get("missing", "") not in ("", "0")
    streams = {checked_stream(texts["stream"])} if texts["stream"] else set()
    search = Search(
        streams=streams,
        session=_integer("session", texts["session"]) if texts["session"] else None,
        since_ms=_time("since", texts["since"], now_ms) if texts["since"] else None,
        until_ms=_time("until", texts["until"], now_ms) if texts["until"] else None,
        missing=missing,
    )
    return FileQuery(**texts, missing=missing, page=page, search=search)


def checked_stream(text: str) -> str:
    """Return a stream's name. Raises BadQueryError."""
    try:
        return stream_name(text)
    except ContractError:
        raise BadQueryError("a stream's name has up to 64 of A-Z a-z 0-9 _ - in it") from None


def checked_night(text: str) -> date:
    """Return the date of a night. Raises BadQueryError."""
    try:
        if _DATE.fullmatch(text):
            found = date.fromisoformat(text)
            if 1970 <= found.year <= 9998:  # its ends can be written
                return found
    except ValueError:
        pass
    raise BadQueryError("a night is the date on which it begins, such as 2026-11-29")


def checked_window(night: date, parameters: Mapping[str, str], now_ms: int) -> Window:
    """Return the part of a night that `from` and `to` ask for; all of it without them. Raises BadQueryError."""
    whole = night_window(night)
    given = parameters.get("from"), parameters.get("to")
    if given == (None, None):
        return whole
    start_ms = whole.start_ms if not given[0] else _time("from", given[0], now_ms)
    end_ms = whole.end_ms if not given[1] else _time("to", given[1], now_ms)
    start_ms, end_ms = max(start_ms, whole.start_ms), min(end_ms, whole.end_ms)
    if end_ms - start_ms < _SHORTEST_MS:
        raise BadQueryError("from and to must be a minute apart at least, and within the night")
    return Window(start_ms, end_ms)


def checked_session(text: str) -> int:
    """Return the id of a session. Raises BadQueryError."""
    return _integer("a session", text)


def _integer(name: str, text: str) -> int:
    if not (text.isascii() and _INTEGER.fullmatch(text)):
        raise BadQueryError(f"{name} must be a whole number")
    return int(text)


def _time(name: str, text: str, now_ms: int) -> int:
    try:
        return min(parse_time(text[: _MAX_TEXT + 10], now_ms), 2**62)
    except ValueError as error:
        raise BadQueryError(f"{name}: {error}") from None
