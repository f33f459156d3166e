"""What an operator does to an archive or looks up in it: one module per command, its pure rules beside it.

Flags are in commands/, printing in console/.
"""
