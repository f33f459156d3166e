"""The JSON objects of a verdict's streams and archivers, as `archiver status --json` and the page give them. Pure."""

from typing import Any

from archiver.core.formatting import format_iso
from archiver.status.stream_status import as_json
from archiver.status.verdict import StreamVerdict
from g3stream.contract.program_status import ArchiverStatus


def stream_json(it: StreamVerdict) -> dict[str, Any]:
    """Return a stream's object, with the names documented in `archiver status --help`."""
    ingest = it.ingest
    return {
        "kind": "stream",
        **as_json(it.status),
        "state": it.state,
        "since": format_iso(it.since_ms),
        "bytes_per_s": it.bytes_per_s if ingest else None,
        "archiver": it.instance,
        "ingest_host": ingest.host if ingest else None,
        "ingest_reported": format_iso(ingest.time_ms) if ingest else None,
        "sender": ingest.source if ingest else None,
    }


def archiver_json(report: ArchiverStatus) -> dict[str, Any]:
    """Return an archiver's object, from its last report."""
    return {
        "kind": "archiver",
        "group": report.group,
        "instance": report.instance,
        "host": report.host,
        "streams": sorted(report.streams),
        "data_dir": report.data_dir,
        "disk_free_bytes": report.disk_free_bytes,
        "bytes_per_s": report.bytes_per_s,
        "reported": format_iso(report.time_ms),
    }
