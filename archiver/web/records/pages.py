"""The URLs of what was recorded: nights, files, acquisitions, sessions, losses."""

import asyncio
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from archiver.catalog import queries
from archiver.catalog.recorded import Loss, Recorded
from archiver.web.api import VERSION
from archiver.web.now.snapshot import Snapshot
from archiver.web.read_only import WANTS_JSON
from archiver.web.records import api as records_api
from archiver.web.records.catalog_follower import CatalogFollower
from archiver.web.records.night_view import Link, night_view, night_window
from archiver.web.records.query import (
    FileQuery,
    checked_night,
    checked_session,
    checked_stream,
    checked_window,
    file_query,
)
from archiver.web.records.timeline import OpenFile
from archiver.web.records.views import (
    Place,
    acquisition_view,
    file_row,
    file_view,
    loss_row,
    session_row,
    session_view,
)
from archiver.web.rendering import Renderer
from archiver.web.urls import night_of
from g3stream.host.environment import host_name, now_ms

_PER_PAGE: Final = 100
_MAX_LOSSES: Final = 1000


class PageNotFoundError(HTTPException):
    """There is nothing at this URL; the message says what was looked for."""

    def __init__(self, text: str) -> None:
        super().__init__(HTTPStatus.NOT_FOUND, text)


@dataclass(frozen=True, slots=True)
class Parts:
    """What the pages of what was recorded are made of."""

    renderer: Renderer
    catalog: CatalogFollower
    snapshot: Callable[[], Snapshot]
    data_dir: str | None


class RecordPages:
    """Answers the requests."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def routes(self) -> list[Route]:
        """Return the URLs."""
        return [
            Route("/night", self._night),
            Route("/night/{night}", self._night),
            Route("/files", self._files),
            Route("/file/{path:path}", self._file),
            Route("/acquisition/{stream}/{number}", self._acquisition),
            Route("/sessions", self._sessions),
            Route("/session/{session}", self._session),
            Route("/losses", self._losses),
        ]

    async def _night(self, request: Request) -> Response:
        now = now_ms()
        text = request.path_params.get("night")
        night = night_of(now) if text is None else checked_night(text)
        window = checked_window(night, request.query_params, now)

        def ask(connection: sqlite3.Connection) -> tuple[Recorded, list[Loss], list[tuple[int, int]]]:
            found = queries.recorded(connection, window.start_ms, window.end_ms - 1)
            whole = night_window(night)
            return (
                found,
                queries.losses(connection, window.start_ms, window.end_ms - 1),
                queries.spans(connection, whole.start_ms, whole.end_ms - 1),
            )

        recorded, losses, spans = await self._parts.catalog.query(ask)
        place, open_files = self._place(), self._open_files()

        def answer() -> Response:
            if request.scope[WANTS_JSON]:
                return JSONResponse(records_api.night_json(night, window, recorded, losses, place))
            return self._page(
                "night.html", "Night", night_view(night, window, recorded, losses, open_files, spans, now)
            )

        return await asyncio.to_thread(answer)  # it takes 0.1 s for 3,000 files, in which the loop serves others

    async def _files(self, request: Request) -> Response:
        now = now_ms()
        asked = file_query(request.query_params, now)
        page, streams = await self._parts.catalog.query(
            lambda it: (queries.search(it, asked.search, asked.page, _PER_PAGE), queries.streams(it))
        )
        has_more = asked.page * _PER_PAGE < page.total
        if request.scope[WANTS_JSON]:
            next_url = asked.url("/files.json", asked.page + 1) if has_more else None
            return JSONResponse(records_api.files_json(page, asked.page, next_url, self._place()))
        first = (asked.page - 1) * _PER_PAGE + 1
        shown = f", {first:,} to {first + len(page.files) - 1:,}, the newest first" if page.total > 1 else ""
        return self._page(
            "files.html",
            "Files",
            {
                "heading": f"Files of {asked.stream}" if asked.stream else "Files",
                "search": asked,
                "all_streams": streams,
                "found": f"{page.total:,} file{'s' * (page.total != 1)}{shown if page.files else ''}",
                "files": [file_row(it, now) for it in page.files],
                "pager": _pager(asked, has_more=has_more),
                "json_href": asked.url("/files.json", asked.page),
            },
        )

    async def _file(self, request: Request) -> Response:
        path = request.path_params["path"]
        file = await self._parts.catalog.query(lambda it: queries.file_at(it, path))
        if file is None:
            raise PageNotFoundError(f"No file {path[:200]} was recorded, as far as the catalog knows.")
        if request.scope[WANTS_JSON]:
            return JSONResponse({"v": VERSION, **records_api.file_json(file, self._place())})
        return self._page("file.html", "Files", file_view(file, self._place(), now_ms()))

    async def _acquisition(self, request: Request) -> Response:
        stream = checked_stream(request.path_params["stream"])
        number = checked_session(request.path_params["number"])
        found = await self._parts.catalog.query(lambda it: queries.acquisition(it, stream, number))
        if found is None:
            raise PageNotFoundError(f"The stream {stream} has no file number {number}, as far as the catalog knows.")
        if request.scope[WANTS_JSON]:
            return JSONResponse({"v": VERSION, **records_api.acquisition_json(found, self._place())})
        return self._page("acquisition.html", "Files", acquisition_view(found, self._place(), now_ms()))

    async def _sessions(self, request: Request) -> Response:
        now = now_ms()
        given = request.query_params.get("before")
        before = None if given is None else checked_session(given)
        found = await self._parts.catalog.query(lambda it: queries.sessions(it, _PER_PAGE, before))
        older = f"before={found[-1].session}" if len(found) == _PER_PAGE else None
        if request.scope[WANTS_JSON]:
            next_url = f"/sessions.json?{older}" if older else None
            sessions = [records_api.session_json(it) for it in found]
            return JSONResponse({"v": VERSION, "next": next_url, "sessions": sessions})
        return self._page(
            "sessions.html",
            "Sessions",
            {
                "found": "A session is what SMuRF's streams of one observation have in common: their session_id. "
                + ("The newest first." if found else "None was recorded."),
                "sessions": [session_row(it, now) for it in found],
                "pager": [Link("older →", f"/sessions?{older}", "next")] if older else [],
                "json_href": "/sessions.json" + (f"?before={before}" if before is not None else ""),
            },
        )

    async def _session(self, request: Request) -> Response:
        session = checked_session(request.path_params["session"])
        files = await self._parts.catalog.query(lambda it: queries.session_files(it, session))
        if not files:
            raise PageNotFoundError(f"No file of the session {session} was recorded, as far as the catalog knows.")
        place = self._place()

        def answer() -> Response:
            if request.scope[WANTS_JSON]:
                return JSONResponse(records_api.session_files_json(session, files, place))
            return self._page("acquisition.html", "Sessions", session_view(session, files, now_ms()))

        return await asyncio.to_thread(answer)  # as a night's

    async def _losses(self, request: Request) -> Response:
        now = now_ms()
        given = request.query_params.get("stream", "")
        streams = {checked_stream(given)} if given else set()
        every = await self._parts.catalog.query(lambda it: queries.losses(it, streams=streams))
        newest = every[: -_MAX_LOSSES - 1 : -1]
        if request.scope[WANTS_JSON]:
            return JSONResponse(records_api.losses_json(newest))
        count = f"{len(every):,} event{'s' * (len(every) != 1)}"
        return self._page(
            "losses.html",
            "Files",
            {
                "heading": f"Losses of {given}" if given else "Losses",
                "found": f"{count}, the newest first" if every else "Nothing was lost.",
                "losses": [loss_row(it, now) for it in newest],
                "pager": [],
                "json_href": "/losses.json" + (f"?stream={given}" if given else ""),
            },
        )

    def _page(self, template: str, page: str, view: object) -> Response:
        not_current = self._parts.catalog.not_current()
        return HTMLResponse(self._parts.renderer.page(template, page, view=view, not_current=not_current))

    def _place(self) -> Place | None:
        """Return where the archive is: as configured, or where its archivers say."""
        if self._parts.data_dir:
            return Place(self._parts.data_dir)
        verdict = self._parts.snapshot().verdict
        reports = verdict.archivers if verdict else ()
        here = host_name()
        places = {(it.data_dir, "" if it.host == here else it.host) for it in reports}
        return Place(*places.pop()) if len(places) == 1 else None

    def _open_files(self) -> list[OpenFile]:
        verdict = self._parts.snapshot().verdict
        return [
            OpenFile(it.stream, it.file, it.file_start)
            for it in (found.status for found in (verdict.streams if verdict else ()))
            if it.file and it.file_start is not None and not it.closing
        ]


def _pager(asked: FileQuery, *, has_more: bool) -> list[Link]:
    links = []
    if asked.page > 1:
        links.append(Link("← newer", asked.url("/files", asked.page - 1), "prev"))
    if has_more:
        links.append(Link("older →", asked.url("/files", asked.page + 1), "next"))
    return links
