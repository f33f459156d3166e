"""The archiver's side of Kafka: group membership, consuming, commits, and events on g3.files.

Nothing here reads or writes files.
"""
