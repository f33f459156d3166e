"""Finished files handed over to others: each event of g3.files to a command or a URL, at least once and in order.

Runs beside the recording and never holds it up.
"""
