"""What /healthz says, as whoever watches asks for it."""

from tests.support.processes import SECONDS, eventually, get


def await_health(port: int, *parts: str, seconds: float = SECONDS) -> str:
    """Until it is a single line with all of that; gives the line."""

    def is_so() -> bool:
        status, text = get(port, "/healthz")
        return status == 503 and text.count("\n") == 1 and all(part in text for part in parts)

    try:
        eventually(is_so, f"health says {parts}", seconds)
    except AssertionError:
        print(f"it says {get(port, '/healthz')}")
        raise
    return get(port, "/healthz")[1]


def await_well(port: int) -> None:
    """Until it says that all is well."""
    eventually(lambda: get(port, "/healthz") == (200, "ok\n"), "all is well")
