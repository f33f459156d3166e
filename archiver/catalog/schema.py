"""The catalog's schema: tables as programs need them, and views of them for people; docs/analyse/catalog.md.

A program that changes anything here increases SCHEMA_VERSION: a catalog of another version is made again from
g3.files. The views say times in ISO 8601 (UTC), and the night of something is the date of the noon before it (UTC).
"""

SCHEMA_VERSION = 1
"""PRAGMA user_version."""
APPLICATION_ID = 0x67336361
"""PRAGMA application_id of a catalog: `g3ca`. A SQLite file with another one is not ours."""

_TABLES = """
-- The archive, and how far g3.files was read; one row.
CREATE TABLE meta (
  only_row INTEGER PRIMARY KEY CHECK (only_row = 1),
  archive_group TEXT NOT NULL,   -- the consumer group that records it
  next_offset INTEGER NOT NULL,  -- of g3.files, to be read next
  event_offset INTEGER,          -- the last record of g3.files that was read, of any archive
  event_time_ms INTEGER,
  event_key TEXT,
  updated_ms INTEGER             -- when that was
);

-- A row for each event that recorded a file. A path may have several kinds: the view `files` shows the best known.
CREATE TABLE file (
  id_row INTEGER PRIMARY KEY,    -- in the order in which they were first published
  path TEXT NOT NULL,            -- below the data directory
  kind TEXT NOT NULL,            -- finished, salvaged, adopted
  stream TEXT NOT NULL,
  id TEXT NOT NULL,              -- the stream id in its path
  start_s INTEGER NOT NULL,      -- the acquisition's start, as in its path
  number INTEGER,                -- finished: among all of the stream, from 1
  acquisition INTEGER,           -- finished: the number of its acquisition's first file
  session INTEGER,               -- finished: the newest session_id at its end
  begin_ms INTEGER NOT NULL,     -- first_ms, or start_s if that is unknown
  end_ms INTEGER NOT NULL,       -- last_ms (closed_ms, if the acquisition continues), or start_s
  first_ms INTEGER,              -- finished: when its first frame was received
  last_ms INTEGER,               -- finished: its last frame
  closed_ms INTEGER,             -- finished: the record that closed it
  closed TEXT,                   -- finished: why it was closed: start, end, lost (disconnected), gap, time
  frames INTEGER NOT NULL,
  missing INTEGER NOT NULL,      -- frames that were never received
  bytes INTEGER NOT NULL,
  sha256 TEXT NOT NULL,
  md5 TEXT,
  host TEXT NOT NULL,
  what TEXT,                     -- salvaged: why it could not be recorded to its end
  who TEXT,                      -- adopted: by whom, why, and its damage
  reason TEXT,
  damage TEXT,
  UNIQUE (path, stream, kind)
);
CREATE INDEX file_number ON file (stream, number);
CREATE INDEX file_acquisition ON file (stream, acquisition, number);
CREATE INDEX file_closed ON file (stream, closed_ms);
CREATE INDEX file_time ON file (end_ms, begin_ms, stream, acquisition);
CREATE INDEX file_begin ON file (begin_ms);
CREATE INDEX file_session ON file (session) WHERE session IS NOT NULL;
CREATE INDEX file_missing ON file (begin_ms) WHERE missing > 0;
CREATE INDEX file_salvaged ON file (path) WHERE kind = 'salvaged';

-- Records that were lost, or may be.
CREATE TABLE loss (
  id_row INTEGER PRIMARY KEY,
  key TEXT NOT NULL UNIQUE,      -- of its event
  stream TEXT NOT NULL,
  records INTEGER,               -- null: unknown
  times INTEGER NOT NULL,        -- how many losses this is
  what TEXT NOT NULL,
  cause TEXT,
  offset INTEGER NOT NULL,       -- of g3.frames.<stream>, after the record that revealed it
  since_ms INTEGER,              -- the last record before; null: unknown
  until_ms INTEGER NOT NULL,     -- the record that revealed it
  host TEXT NOT NULL,
  file TEXT                      -- the path of the finished file during which it was noticed
);
CREATE INDEX loss_stream ON loss (stream, until_ms);
CREATE INDEX loss_time ON loss (until_ms);
CREATE INDEX loss_file ON loss (file) WHERE file IS NOT NULL;

-- Files deleted on purpose. It counts for the file of that path if that has this sha256.
CREATE TABLE retirement (
  path TEXT PRIMARY KEY,
  stream TEXT NOT NULL,
  sha256 TEXT NOT NULL,
  bytes INTEGER NOT NULL,
  time_ms INTEGER NOT NULL,
  who TEXT NOT NULL,
  host TEXT NOT NULL,
  reason TEXT NOT NULL
) WITHOUT ROWID;

-- Events of the archive that this program does not understand.
CREATE TABLE unreadable (
  offset INTEGER PRIMARY KEY,    -- of g3.files
  what TEXT NOT NULL
);
"""


def _iso(column: str) -> str:
    """The SQL of a time in ms as ISO 8601; null beyond the year 9999."""
    return f"strftime('%Y-%m-%dT%H:%M:%fZ', {column} / 1000.0, 'unixepoch')"


def _sum(column: str) -> str:
    """The SQL of a sum that can't overflow."""
    return f"CAST(total({column}) AS INTEGER)"


def _lost(condition: str) -> str:
    """The SQL of the number of records lost; null if it is unknown for one of the losses."""
    records = f"CASE WHEN count(*) = count(records) THEN {_sum('records')} END"
    return f"(SELECT {records} FROM loss WHERE {condition})"


_NIGHT = "date({column} / 1000.0 - 43200, 'unixepoch')"
BEST = """
  (file.kind = 'salvaged'
   OR NOT EXISTS (SELECT 1 FROM file AS other WHERE other.path = file.path AND other.kind = 'salvaged'))
  AND (file.kind <> 'adopted'
   OR NOT EXISTS (SELECT 1 FROM file AS other WHERE other.path = file.path AND other.kind = 'finished'))
"""
"""Whether an event is the one that says most about its path: salvaged, else finished, else adopted."""

_VIEWS = f"""
CREATE VIEW files AS SELECT
  file.path, file.kind, file.stream, file.id,
  {_iso("file.start_s * 1000")} AS start,
  file.number, file.acquisition, file.session,
  {_iso("file.first_ms")} AS first_frame,
  {_iso("file.last_ms")} AS last_frame,
  {_iso("file.closed_ms")} AS closed_at,
  file.closed, file.frames, file.missing, file.bytes,
  (SELECT ifnull(sum(times), 0) FROM loss WHERE loss.file = file.path) AS losses,
  {_lost("loss.file = file.path")} AS lost_records,
  {_NIGHT.format(column="file.begin_ms")} AS night,
  file.sha256, file.md5, file.host,
  {_iso("retirement.time_ms")} AS retired,
  retirement.who AS retired_by, retirement.reason AS retired_reason,
  file.what, file.who, file.reason, file.damage
FROM file
LEFT JOIN retirement ON retirement.path = file.path AND retirement.sha256 = file.sha256
WHERE {BEST};

CREATE VIEW acquisitions AS SELECT
  stream, acquisition, id,
  {_iso("start_s * 1000")} AS start,
  {_iso("min(first_ms)")} AS first_frame,
  {_iso("max(last_ms)")} AS last_frame,
  count(*) AS files,
  {_sum("frames")} AS frames, {_sum("missing")} AS missing, {_sum("bytes")} AS bytes,
  max(session) AS session,
  (SELECT last.closed FROM file AS last
   WHERE last.stream = file.stream AND last.acquisition = file.acquisition
   ORDER BY last.number DESC LIMIT 1) AS closed,
  {_NIGHT.format(column="min(begin_ms)")} AS night
FROM file WHERE acquisition IS NOT NULL GROUP BY stream, acquisition;

CREATE VIEW sessions AS SELECT
  session,
  {_iso("min(first_ms)")} AS first_frame,
  {_iso("max(last_ms)")} AS last_frame,
  count(DISTINCT stream) AS streams,
  count(*) AS files,
  {_sum("frames")} AS frames, {_sum("missing")} AS missing, {_sum("bytes")} AS bytes
FROM file WHERE session IS NOT NULL GROUP BY session;

CREATE VIEW observations AS SELECT
  'obs_' || id || '_' || session AS observation,
  session, stream, id,
  {_iso("min(first_ms)")} AS first_frame,
  {_iso("max(last_ms)")} AS last_frame,
  count(*) AS files,
  {_sum("frames")} AS frames, {_sum("missing")} AS missing, {_sum("bytes")} AS bytes
FROM file WHERE session IS NOT NULL GROUP BY session, stream, id;

CREATE VIEW losses AS SELECT
  stream, records, times, what, cause,
  {_iso("since_ms")} AS since, {_iso("until_ms")} AS until,
  {_NIGHT.format(column="until_ms")} AS night,
  file, host, offset
FROM loss;

CREATE VIEW retirements AS SELECT
  retirement.path, retirement.stream, {_iso("retirement.time_ms")} AS retired,
  retirement.who, retirement.reason, retirement.bytes, retirement.sha256, retirement.host
FROM retirement
WHERE EXISTS (SELECT 1 FROM file WHERE file.path = retirement.path AND file.sha256 = retirement.sha256 AND {BEST});

CREATE VIEW nights AS SELECT
  night, {_sum("files")} AS files, {_sum("bytes")} AS bytes,
  max(streams) AS streams, {_sum("missing")} AS missing, {_sum("losses")} AS losses
FROM (
  SELECT {_NIGHT.format(column="begin_ms")} AS night, count(*) AS files, {_sum("bytes")} AS bytes,
    count(DISTINCT stream) AS streams, {_sum("missing")} AS missing, 0 AS losses
  FROM file WHERE {BEST} GROUP BY night
  UNION ALL
  SELECT {_NIGHT.format(column="until_ms")} AS night, 0, 0, 0, 0, {_sum("times")}
  FROM loss GROUP BY night
)
GROUP BY night;
"""

SCHEMA = _TABLES + _VIEWS
"""The statements that make an empty catalog."""
