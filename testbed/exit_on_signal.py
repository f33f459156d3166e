"""Turn SIGINT and SIGTERM into an exit that stops all that was started, once: a second Ctrl-C can't interrupt it."""

import os
import signal
from types import FrameType


def exit_on_signal(*, with_signal_code: bool, message: str = "") -> None:
    """Have SIGINT and SIGTERM raise SystemExit in the main thread.

    with_signal_code: exit code 128 + the signal's number, as a shell has it; else 0. message: for stderr.
    """

    def leave(number: int, _frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second Ctrl-C mustn't interrupt the stopping
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if message:
            # Not print(): this may have interrupted one, and print isn't reentrant.
            os.write(2, f"\n{message}\n".encode())
        raise SystemExit(128 + number if with_signal_code else 0)

    signal.signal(signal.SIGINT, leave)
    signal.signal(signal.SIGTERM, leave)
