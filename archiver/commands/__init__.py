"""The flags of `archiver`'s commands, one module per command.

A module imports what its command does only when the command is run, so that `archiver --help` starts fast.
"""
