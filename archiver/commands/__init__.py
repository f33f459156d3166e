"""The flags of `archiver`'s commands, a module for each.

They import what a command does only when it is run, so that `archiver --help` starts fast.
"""
