"""The URLs of the page: each gives HTML, or the same as JSON."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from http import HTTPStatus
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from archiver.web.api import error_json, now_json
from archiver.web.live import LivePage
from archiver.web.quicklook.client import QuickLookClient
from archiver.web.quicklook.pages import QuickLookPages
from archiver.web.read_only import WANTS_JSON, ReadOnly
from archiver.web.records.catalog_follower import QueryError
from archiver.web.records.pages import PageNotFoundError, Parts, RecordPages
from archiver.web.records.query import BadQueryError
from g3stream.host.environment import now_ms

_STATIC = Path(__file__).parent / "static"


class Pages:
    """Answers the requests."""

    def __init__(self, live: LivePage, parts: Parts, quicklook: QuickLookClient | None = None) -> None:
        """quicklook: None if there is no quick-look process."""
        self._renderer = parts.renderer
        self._live = live
        self._snapshot = parts.snapshot
        self._records = RecordPages(parts)
        self._looks = QuickLookPages(parts.renderer, quicklook).routes() if quicklook else []

    def app(self) -> ASGIApp:
        """Return the application."""
        routes = [
            Route("/", self._now),
            Route("/now", self._now),
            Route("/live", self._events),
            Route("/healthz", self._health),
            *self._records.routes(),
            *self._looks,
            Mount("/static", StaticFiles(directory=_STATIC)),
        ]
        handlers: dict[Any, Any] = {
            HTTPException: self._error,
            BadQueryError: self._bad_query,
            QueryError: self._unavailable,
            Exception: self._failure,
        }
        return ReadOnly(Starlette(routes=routes, exception_handlers=handlers, lifespan=self._running))

    @contextlib.asynccontextmanager
    async def _running(self, _: Starlette) -> AsyncIterator[None]:
        await self._live.update()
        task = asyncio.create_task(self._live.run())
        yield
        task.cancel()

    async def _now(self, request: Request) -> Response:
        if request.scope[WANTS_JSON]:
            return JSONResponse(now_json(self._snapshot(), now_ms()))
        return HTMLResponse(self._renderer.page("now.html", "Now", fragments=self._live.fragments))

    async def _events(self, _: Request) -> Response:
        return StreamingResponse(self._live.events(), media_type="text/event-stream")

    async def _health(self, _: Request) -> Response:
        snapshot = self._snapshot()
        if snapshot.is_live(now_ms()):
            return PlainTextResponse("ok\n")
        why = snapshot.error or "Kafka hasn't answered yet"
        return PlainTextResponse(f"not live: {why}\n", HTTPStatus.SERVICE_UNAVAILABLE)

    async def _error(self, request: Request, error: Exception) -> Response:
        """Answer with the page of an error that has a status of HTTP."""
        assert isinstance(error, HTTPException)
        heading = HTTPStatus(error.status_code).phrase.capitalize()
        known = isinstance(error, PageNotFoundError)
        text = error.detail if known else f"There is no page at {request.scope['path'][:200]}."
        return self._error_page(request, error.status_code, heading, text)

    async def _bad_query(self, request: Request, error: Exception) -> Response:
        text = f"The address can't be understood: {error}."
        return self._error_page(request, HTTPStatus.BAD_REQUEST, "Bad request", text)

    async def _unavailable(self, request: Request, error: Exception) -> Response:
        """Answer when the catalog can't be read."""
        text = f"{error}. Recording doesn't depend on it."
        return self._error_page(request, HTTPStatus.SERVICE_UNAVAILABLE, "Not available now", text)

    async def _failure(self, request: Request, _: Exception) -> Response:
        """Answer with the page of an error of ours; the server logs it."""
        text = "This page has failed; the log of archiver web says how. Recording doesn't depend on it."
        return self._error_page(request, HTTPStatus.INTERNAL_SERVER_ERROR, "Failed", text)

    def _error_page(self, request: Request, status: int, heading: str, text: str) -> Response:
        if request.scope[WANTS_JSON]:
            return JSONResponse(error_json(status, text), status)
        return HTMLResponse(self._renderer.page("error.html", "", heading=heading, text=text), status)
