"""What holds for every request: only GET and HEAD, `.json` at a path's end asks for JSON, and strict headers."""

from http import HTTPStatus
from typing import Final

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

WANTS_JSON: Final = "g3.wants_json"
"""The key of a request's scope that says whether it is to be answered with JSON."""
CONTENT_SECURITY_POLICY: Final = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
_HEADERS: Final = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_JSON: Final = ".json"


class ReadOnly:
    """An ASGI application around another one, whose requests read only."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request, or the beginning and end of the server."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers[name] = value
                headers.setdefault(
                    "Cache-Control", "no-cache" if scope["path"].startswith("/static/") else "no-store"
                )
                headers.add_vary_header("Accept")
            await send(message)

        if scope["method"] not in ("GET", "HEAD"):
            await _refuse(send_with_headers)
            return
        is_json = scope["path"].endswith(_JSON)
        if is_json:
            path = scope["path"].removesuffix(_JSON) or "/"
            scope = {**scope, "path": path, "raw_path": path.encode()}
        accepted = Headers(scope=scope).get("accept", "").partition(",")[0].partition(";")[0].strip()
        scope[WANTS_JSON] = is_json or accepted == "application/json"
        await self._app(scope, receive, send_with_headers)


async def _refuse(send: Send) -> None:
    """Answer a request that isn't GET or HEAD: there is no action that changes anything."""
    body = b"This page only reads: GET and HEAD are answered.\n"
    headers = [
        (b"allow", b"GET, HEAD"),
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"content-length", str(len(body)).encode()),
        (b"connection", b"close"),
    ]
    await send({"type": "http.response.start", "status": HTTPStatus.METHOD_NOT_ALLOWED, "headers": headers})
    await send({"type": "http.response.body", "body": body})
