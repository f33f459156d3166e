"""Hand-over: each event of g3.files is given to a command or a URL, at least once and in order.

It runs beside the recording and never delays it.
"""
