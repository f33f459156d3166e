"""Waiting for states of /healthz, as monitoring sees them."""

from tests.support.processes import SECONDS, eventually, get


def await_health(port: int, *parts: str, seconds: float = SECONDS) -> str:
    """Wait until /healthz is one line with all of these parts; return the line."""

    def matches() -> bool:
        status, text = get(port, "/healthz")
        return status == 503 and text.count("\n") == 1 and all(part in text for part in parts)

    try:
        eventually(matches, f"health says {parts}", seconds)
    except AssertionError:
        print(f"/healthz: {get(port, '/healthz')}")
        raise
    return get(port, "/healthz")[1]


def await_healthy(port: int) -> None:
    """Wait until /healthz is ok."""
    eventually(lambda: get(port, "/healthz") == (200, "ok\n"), "/healthz is ok")
