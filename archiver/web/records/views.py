"""How recorded files, acquisitions, sessions and losses are shown: rows of tables, and the facts of one. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from archiver.catalog.recorded import Acquisition, Loss, RecordedFile, Session, observation_name
from archiver.catalog.rows import ADOPTED, FINISHED, SALVAGED
from archiver.core.formatting import format_bytes
from archiver.web.text import Moment, moment, short_duration
from archiver.web.urls import acquisition_url, file_url, loss_anchor, night_of, night_url, session_url
from archiver.web.wording import closing_brief, closing_text, loss_text, missing_brief, missing_text
from g3stream.host.durations import format_duration


@dataclass(frozen=True, slots=True)
class FileRow:
    """A file in a table."""

    href: str
    name: str
    stream: str
    begin: Moment | None
    length: str
    frames: str
    size: str
    missing: str
    closed: str
    session: int | None
    notes: tuple[str, ...]
    is_retired: bool


@dataclass(frozen=True, slots=True)
class LossRow:
    """A loss in a table."""

    anchor: str
    stream: str
    since: Moment | None
    until: Moment | None
    records: str
    text: str
    """What happened, in a sentence."""
    detail: str
    """Which records, as in the event; empty if `text` says that."""
    file: str
    file_href: str


@dataclass(frozen=True, slots=True)
class SessionRow:
    """A session in a table."""

    session: int
    href: str
    first: Moment | None
    length: str
    streams: str
    files: str
    size: str
    missing: str


@dataclass(frozen=True, slots=True)
class Fact:
    """A fact about something: a name and its value."""

    name: str
    text: str
    href: str = ""
    iso: str = ""
    """If it is a time: for programs."""
    is_code: bool = False
    is_fault: bool = False


@dataclass(frozen=True, slots=True)
class Snippet:
    """Code to copy."""

    title: str
    code: str


@dataclass(frozen=True, slots=True)
class FileView:
    """The page of a file."""

    path: str
    name: str
    notes: tuple[str, ...]
    facts: tuple[Fact, ...]
    losses: tuple[LossRow, ...]
    snippets: tuple[Snippet, ...]
    json_href: str


@dataclass(frozen=True, slots=True)
class FilesView:
    """The page of an acquisition, or a session: its facts and files."""

    heading: str
    facts: tuple[Fact, ...]
    files: tuple[FileRow, ...]
    losses: tuple[LossRow, ...]
    with_stream: bool
    """Whether each file's stream is shown; with_session: its session."""
    with_session: bool
    json_href: str
    snippets: tuple[Snippet, ...] = field(default=())


@dataclass(frozen=True, slots=True)
class Place:
    """Where the archive's files are."""

    data_dir: str
    host: str = ""
    """If it isn't this one."""


def file_row(file: RecordedFile, now_ms: int) -> FileRow:
    """Return a file's row. now_ms: since the epoch."""
    notes = [] if file.kind == FINISHED else [file.kind]
    if file.retired:
        notes.append("retired")
    is_timed = file.first_ms is not None
    return FileRow(
        href=file_url(file.path),
        name=file.path,
        stream=file.stream,
        begin=moment(file.begin_ms, now_ms, with_date=True),
        length=short_duration(file.end_ms - file.begin_ms) if is_timed else "",
        frames=f"{file.frames:,}",
        size=format_bytes(file.bytes),
        missing=missing_brief(file.missing, file.losses),
        closed=closing_brief(file.closed),
        session=file.session,
        notes=tuple(notes),
        is_retired=file.retired is not None,
    )


def loss_row(loss: Loss, now_ms: int) -> LossRow:
    """Return a loss's row. now_ms: since the epoch."""
    text = loss_text(loss)
    return LossRow(
        anchor=loss_anchor(loss),
        stream=loss.stream,
        since=moment(loss.since_ms, now_ms, with_date=True),
        until=moment(loss.until_ms, now_ms, with_date=True),
        records="unknown" if loss.records is None else f"{loss.records:,}",
        text=text,
        detail="" if text.startswith(loss.what) else loss.what,
        file=(loss.file or "").rpartition("/")[2],
        file_href=file_url(loss.file) if loss.file else "",
    )


def session_row(it: Session, now_ms: int) -> SessionRow:
    """Return a session's row. now_ms: since the epoch."""
    return SessionRow(
        session=it.session,
        href=session_url(it.session),
        first=moment(it.first_ms, now_ms, with_date=True),
        length=short_duration(it.last_ms - it.first_ms),
        streams=f"{len(it.streams):,}",
        files=f"{it.files:,}",
        size=format_bytes(it.bytes),
        missing=f"{it.missing:,}" if it.missing else "",
    )


def file_view(file: RecordedFile, place: Place | None, now_ms: int) -> FileView:
    """Return a file's page. place: where the archive is, if that is known."""
    absolute = f"{place.data_dir}/{file.path}" if place else file.path
    return FileView(
        path=file.path,
        name=file.path.rpartition("/")[2],
        notes=tuple(_file_notes(file)),
        facts=tuple(_file_facts(file, place, now_ms)),
        losses=tuple(loss_row(it, now_ms) for it in file.losses),
        snippets=_snippets(file, absolute),
        json_href=f"{file_url(file.path)}.json",
    )


def _file_notes(file: RecordedFile) -> Iterable[str]:
    if it := file.retired:
        why = f": {it.reason}" if it.reason else ""
        yield f"It was retired, so it may be deleted, by {it.who} on {it.host}{why}."
    if file.kind == SALVAGED:
        yield f"It is the rest of a file that could not be recorded to its end: {file.what}"
    if file.kind == ADOPTED:
        yield f"It was there before the archive; adopted by {file.who}" + (f": {file.reason}" if file.reason else "")
    if file.damage:
        yield f"It is damaged: {file.damage}"


def _file_facts(file: RecordedFile, place: Place | None, now_ms: int) -> Iterable[Fact]:
    yield Fact("stream", file.stream, f"/files?stream={file.stream}")
    if file.id != file.stream:
        yield Fact("stream id", file.id)
    if file.acquisition is not None:
        number = (file.number or 0) - file.acquisition + 1
        yield Fact("acquisition", f"number {file.acquisition}, of which it is file {number}",
                   acquisition_url(file.stream, file.acquisition))  # fmt: skip
    if file.session is not None:
        yield Fact("session", str(file.session), session_url(file.session))
    night = night_of(file.begin_ms)
    yield Fact("night", night.isoformat(), night_url(night))
    yield from _times(file.first_ms, file.last_ms, now_ms)
    yield Fact("frames", f"{file.frames:,}")
    yield _missing(file.missing, file.losses)
    yield Fact("size", f"{format_bytes(file.bytes)} ({file.bytes:,} bytes)")
    if text := closing_text(file.closed):
        yield Fact("closed", text)
    yield Fact("SHA-256", file.sha256, is_code=True)
    if file.md5:
        yield Fact("MD5", file.md5, is_code=True)
    if place:
        host = f"{place.host}:" if place.host else ""
        yield Fact("where", f"{host}{place.data_dir}/{file.path}", is_code=True)
    yield Fact("recorded by" if file.kind == FINISHED else f"{file.kind} on", file.host)


def _missing(missing: int, losses: Sequence[Loss]) -> Fact:
    return Fact("missing", missing_text(missing, losses), is_fault=bool(missing or losses))


def _times(first_ms: int | None, last_ms: int | None, now_ms: int) -> Iterable[Fact]:
    for name, time_ms in (("first frame", first_ms), ("last frame", last_ms)):
        if time := moment(time_ms, now_ms):
            yield Fact(name, time.iso.replace("T", " ").removesuffix("Z"), iso=time.iso)
    if first_ms is not None and last_ms is not None:
        yield Fact("length", format_duration(last_ms - first_ms))


def _snippets(file: RecordedFile, absolute: str) -> tuple[Snippet, ...]:
    spt3g = f"from spt3g import core\nfor frame in core.G3File({absolute!r}):\n    print(frame.type, frame.keys())"
    sotodlib = f"from sotodlib.io.load_smurf import load_file\naman = load_file({absolute!r})"
    check = f"echo '{file.sha256}  {absolute}' | sha256sum -c"
    return (
        Snippet("Its frames, with spt3g", spt3g),
        Snippet("Its detectors' samples, with sotodlib (and so3g)", sotodlib),
        Snippet("Is it intact?", check),
    )


def acquisition_view(acquisition: Acquisition, place: Place | None, now_ms: int) -> FilesView:
    """Return an acquisition's page."""
    files = acquisition.files
    first = files[0]
    night = night_of(first.begin_ms)
    facts = [
        Fact("stream", acquisition.stream, f"/files?stream={acquisition.stream}"),
        *([Fact("stream id", first.id)] if first.id != first.stream else []),
        Fact("night", night.isoformat(), night_url(night)),
        *_times(first.first_ms, files[-1].last_ms, now_ms),
        *_sums(files),
        Fact(
            "ended",
            closing_text(files[-1].closed) if acquisition.over else "not yet: its next file is being recorded",
        ),
        *_sessions(files),
    ]
    snippets = []
    if place:
        paths = f"{place.data_dir}/{first.path.rpartition('_')[0]}_*.g3"
        code = f"import glob\nfrom spt3g import core\nfor path in sorted(glob.glob({paths!r})):\n"
        code += "    for frame in core.G3File(path):\n        print(frame.type, frame.keys())"
        snippets.append(Snippet("Its frames, with spt3g", code))
    return FilesView(
        heading=f"Acquisition {acquisition.number} of {acquisition.stream}",
        facts=tuple(facts),
        files=tuple(file_row(it, now_ms) for it in files),
        losses=tuple(loss_row(it, now_ms) for it in acquisition.losses),
        with_stream=False,
        with_session=len({it.session for it in files}) > 1,
        json_href=f"{acquisition_url(acquisition.stream, acquisition.number)}.json",
        snippets=tuple(snippets),
    )


def session_view(session: int, files: Sequence[RecordedFile], now_ms: int) -> FilesView:
    """Return a session's page."""
    begins = [it.first_ms for it in files if it.first_ms is not None]
    ends = [it.last_ms for it in files if it.last_ms is not None]
    observations = sorted({(it.stream, observation_name(it.id, session)) for it in files})
    night = night_of(files[0].begin_ms)
    facts = [
        Fact("night", night.isoformat(), night_url(night)),
        *_times(min(begins, default=None), max(ends, default=None), now_ms),
        *_sums(files),
        Fact("observations", ", ".join(name for _, name in observations), is_code=True),
    ]
    return FilesView(
        heading=f"Session {session}",
        facts=tuple(facts),
        files=tuple(file_row(it, now_ms) for it in files),
        losses=tuple(loss_row(loss, now_ms) for it in files for loss in it.losses),
        with_stream=True,
        with_session=False,
        json_href=f"{session_url(session)}.json",
    )


def _sums(files: Sequence[RecordedFile]) -> Iterable[Fact]:
    yield Fact("files", f"{len(files):,}, {format_bytes(sum(it.bytes for it in files))}")
    yield Fact("frames", f"{sum(it.frames for it in files):,}")
    yield _missing(sum(it.missing for it in files), [loss for it in files for loss in it.losses])


def _sessions(files: Sequence[RecordedFile]) -> Iterable[Fact]:
    for session in sorted({it.session for it in files if it.session is not None}):
        yield Fact("session", str(session), session_url(session))
