"""Replay: files rebuilt from a topic.

The decisions are those of live recording (core/); here is only how records are read again and where files go.
"""
