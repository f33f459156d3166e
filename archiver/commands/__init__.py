"""The flags of `archiver`'s commands, one module per command, whose docstring is its --help.

A module names the function that does it, which is imported only when the command is run, so that --help starts fast.
"""
