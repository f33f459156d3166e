"""Decisions: where files begin and end, what they are called, which record comes next, what is committed.

Pure: functions of data and state. No I/O, no clock, no threads, no Kafka client; time is a parameter. Everything that
live recording and replay must agree on is here.
"""
