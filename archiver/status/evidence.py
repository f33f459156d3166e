"""What is known of an archive from outside: what EvidenceCollector finds, and `judge` judges. Pure data."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from archiver.status.stream_status import Status
from g3stream.contract.program_status import ArchiverStatus, IngestStatus, Report, VerifyStatus


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known of a group's archive and its streams."""

    group: str
    streams: Sequence[Status]
    ingests: Mapping[str, IngestStatus]
    """The last report of each stream's ingest."""
    archivers: Mapping[str, ArchiverStatus]
    """The last report of each of the group's archivers, by instance."""
    copies: Mapping[str, tuple[int, int]]
    """By topic with fewer copies in sync than it has: these two numbers."""
    verified: VerifyStatus | None = None
    """The outcome of the last `archiver verify` of the whole archive, if one is known."""
    are_reports_hidden: bool = False
    """Whether ACLs forbid reading the reports."""
    new_reports: Sequence[Report] = ()
    """Those since the evidence before, in order; at first, all that g3.status has."""
