"""Consumes the streams' topics and writes finished .g3 files.

The path of a record: kafka/ (consumed) → core/ (which file, which place: pure decisions) → segments/ (the open file)
→ recording/ (durable, committed, finished), on top of storage/ (safe files) and archive/ (the archive as a whole).
recovery/ continues after a stop; replay/, verify/ and operations/ are commands on what was recorded; handover/ and
suprsync/ pass finished files on. archiver never imports ingest.
"""
