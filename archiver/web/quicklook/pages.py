"""The URL of quick looks: the latest seconds of a stream."""

from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from archiver.web.quicklook.client import QuickLookClient, UnknownStreamError
from archiver.web.quicklook.view import checked_channels, quicklook_json, quicklook_view
from archiver.web.read_only import WANTS_JSON
from archiver.web.records.pages import PageNotFoundError
from archiver.web.records.query import checked_stream
from archiver.web.rendering import Renderer
from g3stream.host.environment import now_ms


class QuickLookPages:
    """Answers the requests."""

    def __init__(self, renderer: Renderer, client: QuickLookClient) -> None:
        self._renderer = renderer
        self._client = client

    def routes(self) -> list[Route]:
        """Return the URLs."""
        return [Route("/quicklook/{stream}", self._look)]

    async def _look(self, request: Request) -> Response:
        stream = checked_stream(request.path_params["stream"])
        channels = checked_channels(request.query_params.get("channels", ""))
        try:
            found = await self._client.get(stream, channels)
        except UnknownStreamError:
            text = f"There is no quick look at {stream}: it has no topic, or isn't among those that are looked at."
            raise PageNotFoundError(text) from None
        if request.scope[WANTS_JSON]:
            return JSONResponse(quicklook_json(found, stream))
        view = quicklook_view(found, stream, channels, now_ms())
        return HTMLResponse(self._renderer.page("quicklook.html", "Now", view=view))
