"""Run an archiver with a fault at one chosen call: it is killed or frozen, or the call fails or is held.

    python tests/support/injection/stopped_at.py kill before 'link .*_001\\.g3' -- --data-dir /tmp/data …

The product has no hooks for this: this script wraps the functions of `os` that it uses, and Kafka's clients, and then
runs the command `archiver` unchanged. The pattern is searched in a line that describes each call (except the calls of
the archiver's check of the file system at its start):

    pwritev PATH · pread PATH · copy_file_range PATH · fdatasync PATH · fsync PATH · link FROM TO · rename FROM TO
    renameat2 FROM TO (to name a file where link isn't supported)
    unlink PATH · commit METADATA (the request) · committed METADATA (the response) · produce TOPIC KEY · flush
    watermarks TOPIC (the request) · append PATH (to SHA256SUMS)
"""

import argparse
import errno
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import confluent_kafka

T = TypeVar("T")

ERRORS = {name: getattr(errno, name) for name in ("EIO", "ENOSPC", "EROFS")}


class Stop:
    """The fault, and its calls: from the n-th that matches, after `since` has matched an earlier one."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._action: str = options.action
        self._when: str = options.when
        self._call: re.Pattern[str] = options.call
        self._since: re.Pattern[str] | None = options.since
        self._to_skip: int = options.nth - 1
        self._times: int = options.times
        self._at_start = re.compile(r"/\.archiver/check\.")
        self._gate: Path | None = options.gate
        self._counting = threading.Lock()

    def at(self, call: str, carry_out: Callable[[], T], half: Callable[[], object] | None = None) -> T:
        """Carry out a call, with the fault if it is the chosen one. half: carries out half of the call."""
        if not self._is_chosen(call):
            return carry_out()
        if self._when == "after":
            result = carry_out()
            self._happen(call)
            return result
        if self._when == "half" and half:
            half()
        self._happen(call)
        return carry_out()

    def _is_chosen(self, call: str) -> bool:
        if self._at_start.search(call):
            return False
        with self._counting:
            if self._since:
                if self._since.search(call):
                    self._since = None
                return False
            if not self._times or not self._call.search(call):
                return False
            if self._to_skip:
                self._to_skip -= 1
                return False
            self._times -= 1
            return True

    def _happen(self, call: str) -> None:
        os.write(2, f"stopped_at: {self._action} {self._when} {call[:300]}\n".encode())
        if self._action == "TypeError":
            raise TypeError("an unexpected error")
        if self._action in ERRORS:
            raise OSError(ERRORS[self._action], os.strerror(ERRORS[self._action]))
        if self._action == "hold":
            assert self._gate
            self._gate.read_bytes()  # a named pipe: returns when it was opened for writing and closed
            return
        os.kill(os.getpid(), signal.SIGKILL if self._action == "kill" else signal.SIGSTOP)


class ForgetfulDisk:
    """A disk that loses the data of a failed fdatasync, as the kernel may.

    The pages stay readable until the kernel drops them, here just before the file gets its name. Only data that is
    written again is kept.
    """

    def __init__(self) -> None:
        self._synced: dict[int, int] = {}
        self._lost: dict[int, tuple[int, int]] = {}

    def synced(self, fd: int) -> None:
        """Record a successful sync: all data is on the disk, except what was lost before."""
        found = os.fstat(fd)
        self._synced[found.st_ino] = found.st_size

    def failed(self, fd: int) -> None:
        """Record a failed sync: the data written since the last one is lost."""
        found = os.fstat(fd)
        begin = self._synced.get(found.st_ino, 0)
        begin, end = min(begin, found.st_size), found.st_size
        if found.st_ino in self._lost:
            begin = min(begin, self._lost[found.st_ino][0])
        self._lost[found.st_ino] = begin, end

    def wrote(self, fd: int, at: int, count: int) -> None:
        """Record a write: lost bytes are restored if they follow bytes that aren't lost."""
        inode = os.fstat(fd).st_ino
        begin, end = self._lost.get(inode, (0, 0))
        if at <= begin < at + count:
            self._lost[inode] = at + count, end

    def drops(self, path: str) -> None:
        """Overwrite the lost bytes with zeros; called when the file is about to get its name."""
        begin, end = self._lost.pop(Path(path).stat().st_ino, (0, 0))
        if begin < end:
            os.write(2, f"stopped_at: {end - begin} bytes of {path} at {begin} were never on the disk\n".encode())
            with Path(path).open("r+b") as file:
                file.seek(begin)
                file.write(bytes(end - begin))


def wrap_os(stop: Stop, disk: ForgetfulDisk) -> None:
    """Wrap the calls of `os` for `stop` and `disk`."""
    from archiver.storage import no_replace

    pwritev, pread, copy_file_range = os.pwritev, os.pread, os.copy_file_range
    fdatasync, fsync, write = os.fdatasync, os.fsync, os.write

    def stopped_pwritev(fd: int, buffers: Sequence[bytes], offset: int, *flags: int) -> int:
        def half() -> None:
            data = b"".join(buffers)
            os.pwrite(fd, data[: len(data) // 2], offset)

        count = stop.at(f"pwritev {_path_of(fd)}", lambda: pwritev(fd, buffers, offset, *flags), half)
        disk.wrote(fd, offset, count)
        return count

    def stopped_pread(fd: int, count: int, offset: int) -> bytes:
        return stop.at(f"pread {_path_of(fd)}", lambda: pread(fd, count, offset))

    def stopped_copy_file_range(src: int, dst: int, *rest: int) -> int:
        return stop.at(f"copy_file_range {_path_of(dst)}", lambda: copy_file_range(src, dst, *rest))

    def stopped_write(fd: int, data: bytes) -> int:
        if not (path := _path_of(fd)).endswith("SHA256SUMS"):
            return write(fd, data)
        return stop.at(f"append {path}", lambda: write(fd, data), lambda: write(fd, data[: len(data) // 2]))

    def stopped_fdatasync(fd: int) -> None:
        if fd < 0:
            fdatasync(fd)  # raises; there is no path to choose it by
        try:
            stop.at(f"fdatasync {_path_of(fd)}", lambda: fdatasync(fd))
        except OSError:
            disk.failed(fd)
            raise
        disk.synced(fd)

    def stopped_fsync(fd: int) -> None:
        stop.at(f"fsync {_path_of(fd)}", lambda: fsync(fd))

    def of_two_paths(name: str, shown: str) -> Callable[..., None]:
        real = getattr(os, name)

        def stopped(
            src: Any, dst: Any, *, src_dir_fd: int | None = None, dst_dir_fd: int | None = None, **rest: Any
        ) -> None:
            source, target = _path(src, src_dir_fd), _path(dst, dst_dir_fd)
            if shown == "link":
                disk.drops(source)
            stop.at(
                f"{shown} {source} {target}",
                lambda: real(src, dst, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd, **rest),
            )

        return stopped

    def of_one_path(name: str, shown: str) -> Callable[..., None]:
        real = getattr(os, name)

        def stopped(path: Any, *, dir_fd: int | None = None) -> None:
            stop.at(f"{shown} {_path(path, dir_fd)}", lambda: real(path, dir_fd=dir_fd))

        return stopped

    wrapped = {
        "pwritev": stopped_pwritev,
        "pread": stopped_pread,
        "write": stopped_write,
        "copy_file_range": stopped_copy_file_range,
        "fdatasync": stopped_fdatasync,
        "fsync": stopped_fsync,
        "link": of_two_paths("link", "link"),
        # pathlib's rename, replace and unlink call those of os.
        "rename": of_two_paths("rename", "rename"),
        "replace": of_two_paths("replace", "rename"),
        "unlink": of_one_path("unlink", "unlink"),
        "remove": of_one_path("remove", "unlink"),
    }
    for name, function in wrapped.items():
        setattr(os, name, function)
    renameat2 = no_replace.renameat2

    def stopped_renameat2(directory: int, name: bytes, new_directory: int, new: bytes, flags: int) -> int:
        call = f"renameat2 {_path(name, directory)} {_path(new, new_directory)}"
        return stop.at(call, lambda: renameat2(directory, name, new_directory, new, flags))

    setattr(no_replace, "renameat2", stopped_renameat2)  # noqa: B010 - as below


def wrap_kafka(stop: Stop, pace: float) -> None:
    """Wrap Kafka's clients for `stop`. pace: seconds between two records that the consumer delivers."""
    from archiver.kafka import group_consumer, publication, topic_reader

    class Consumer(confluent_kafka.Consumer):
        def __init__(self, config: dict[str, Any]) -> None:
            self._next = 0.0
            self._requested = ""
            if answered := config.get("on_commit"):
                config = {
                    **config,
                    "on_commit": lambda *a: stop.at(f"committed {self._requested}", lambda: answered(*a)),
                }
            super().__init__(config)

        def commit(self, *args: Any, **kwargs: Any) -> Any:
            self._requested = " ".join(str(partition.metadata) for partition in kwargs["offsets"])
            return stop.at(f"commit {self._requested}", lambda: super(Consumer, self).commit(*args, **kwargs))

        def get_watermark_offsets(self, partition: Any, *args: Any, **kwargs: Any) -> Any:
            request = super().get_watermark_offsets
            if kwargs.get("cached"):
                return request(partition, *args, **kwargs)
            return stop.at(f"watermarks {partition.topic}", lambda: request(partition, *args, **kwargs))

        def poll(self, timeout: float = -1) -> Any:
            wait = self._next - time.monotonic()
            if wait > 0:
                time.sleep(min(wait, timeout))
                if wait > timeout:
                    return None
            message = super().poll(timeout)
            if message is not None:
                self._next = time.monotonic() + pace
            return message

    class Producer(confluent_kafka.Producer):
        def produce(self, topic: str, value: Any = None, key: Any = None, *args: Any, **kwargs: Any) -> None:
            key_text = key.decode() if isinstance(key, bytes) else key
            produce = super().produce
            stop.at(f"produce {topic} {key_text}", lambda: produce(topic, value, key, *args, **kwargs))

        def flush(self, *args: Any, **kwargs: Any) -> int:
            flush = super().flush
            return stop.at("flush", lambda: flush(*args, **kwargs))

    setattr(group_consumer, "Consumer", Consumer)  # noqa: B010 - mypy knows that a module's classes stay what they are
    setattr(topic_reader, "Consumer", Consumer)  # noqa: B010
    setattr(publication, "Producer", Producer)  # noqa: B010


def _path_of(fd: int) -> str:
    return str(Path(f"/proc/self/fd/{fd}").readlink())


def _path(path: Any, dir_fd: int | None) -> str:
    return os.fsdecode(path) if dir_fd is None else f"{_path_of(dir_fd)}/{os.fsdecode(path)}"


def main() -> int:
    """Run the archiver; return its exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=["kill", "freeze", "hold", "TypeError", *ERRORS])
    parser.add_argument("when", choices=["before", "half", "after"], help="half: only for a write")
    parser.add_argument("call", type=re.compile, help="a pattern, searched in the line of a call")
    parser.add_argument("--nth", type=int, default=1, help="the first matching call with the fault (default: 1)")
    parser.add_argument("--times", type=int, default=1, help="the number of consecutive calls with the fault")
    parser.add_argument("--since", type=re.compile, help="count only after a call that matches this")
    parser.add_argument("--pace", type=float, default=0.0, metavar="SECONDS", help="between two records (default: 0)")
    parser.add_argument("--gate", type=Path, help="a named pipe: `hold` holds the thread until it is written to")
    parser.add_argument("archiver", nargs="+", help="the arguments of archiver, after --")
    options = parser.parse_args()
    # A script's own directory comes first in sys.path; the archiver to run is the one beside these tests.
    sys.path[0] = str(Path(__file__).resolve().parents[3])
    stop = Stop(options)
    wrap_os(stop, ForgetfulDisk())
    wrap_kafka(stop, options.pace)
    from archiver.__main__ import main as archiver

    return archiver(options.archiver)


if __name__ == "__main__":
    sys.exit(main())
