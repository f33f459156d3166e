"""The decisions: where files begin and end, their names, the order of records, what is committed.

Pure: functions of data and state. No I/O, no clock, no threads, no Kafka client; time is a parameter. Everything that
live recording and replay must agree on is here.
"""
