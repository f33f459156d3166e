"""The JSON of what was recorded, version 1, with the names of `archiver files --json`; docs/operate/page.md. Pure."""

from collections.abc import Iterable, Sequence
from datetime import date
from typing import Any

from archiver.catalog import as_json
from archiver.catalog.recorded import Acquisition, Loss, Page, Recorded, RecordedFile, Session, observation_name
from archiver.core.formatting import format_iso
from archiver.web.api import VERSION
from archiver.web.records.timeline import Window
from archiver.web.records.views import Place
from archiver.web.urls import acquisition_url, file_url, night_url, session_url


def file_json(file: RecordedFile, place: Place | None) -> dict[str, Any]:
    """Return a file. place: where the archive is, if that is known."""
    return {
        "path": file.path,
        "absolute_path": f"{place.data_dir}/{file.path}" if place and not place.host else None,
        "url": file_url(file.path),
        "kind": file.kind,
        "stream": file.stream,
        "id": file.id,
        "start": format_iso(file.start_s * 1000),
        "number": file.number,
        "acquisition": file.acquisition,
        "session": file.session,
        "first_frame": format_iso(file.first_ms),
        "last_frame": format_iso(file.last_ms),
        "frames": file.frames,
        "missing": file.missing,
        "bytes": file.bytes,
        "sha256": file.sha256,
        "md5": file.md5,
        "why": file.closed,
        "host": file.host,
        "losses": [loss_json(it) for it in file.losses],
        "retired": as_json.retired_json(file.retired),
        "what": file.what,
        "who": file.who,
        "reason": file.reason,
        "damage": file.damage,
    }


def loss_json(loss: Loss) -> dict[str, Any]:
    """Return a loss."""
    return {"stream": loss.stream, **as_json.loss_json(loss), "file": loss.file}


def acquisition_json(acquisition: Acquisition, place: Place | None) -> dict[str, Any]:
    """Return an acquisition with its files."""
    return {
        "url": acquisition_url(acquisition.stream, acquisition.number),
        "stream": acquisition.stream,
        "number": acquisition.number,
        **as_json.acquisition_json(acquisition),
        "files": [file_json(it, place) for it in acquisition.files],
    }


def session_json(it: Session) -> dict[str, Any]:
    """Return a session in a list."""
    return {
        "url": session_url(it.session),
        "session": it.session,
        "streams": list(it.streams),
        "first_frame": format_iso(it.first_ms),
        "last_frame": format_iso(it.last_ms),
        "files": it.files,
        "frames": it.frames,
        "missing": it.missing,
        "bytes": it.bytes,
    }


def session_files_json(session: int, files: Sequence[RecordedFile], place: Place | None) -> dict[str, Any]:
    """Return a session with its files, and the names that sotodlib gives its observations."""
    return {
        "v": VERSION,
        "url": session_url(session),
        "session": session,
        "observations": sorted({observation_name(it.id, session) for it in files}),
        "files": [file_json(it, place) for it in files],
    }


def night_json(
    night: date, window: Window, recorded: Recorded, losses: Sequence[Loss], place: Place | None
) -> dict[str, Any]:
    """Return a night, or the part of it in the window. Its acquisitions are whole."""
    return {
        "v": VERSION,
        "url": night_url(night),
        "night": night.isoformat(),
        "from": format_iso(window.start_ms),
        "to": format_iso(window.end_ms),
        "acquisitions": [acquisition_json(it, place) for it in recorded.acquisitions],
        "others": [file_json(it, place) for it in recorded.others],
        "losses": [loss_json(it) for it in losses],
    }


def files_json(page: Page, number: int, next_url: str | None, place: Place | None) -> dict[str, Any]:
    """Return a page of found files. number: of the page. next_url: of the next one."""
    files = [file_json(it, place) for it in page.files]
    return {"v": VERSION, "total": page.total, "page": number, "next": next_url, "files": files}


def losses_json(losses: Iterable[Loss]) -> dict[str, Any]:
    """Return losses."""
    return {"v": VERSION, "losses": [loss_json(it) for it in losses]}
