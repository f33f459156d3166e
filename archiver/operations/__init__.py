"""What the operator's commands do: a module per command, its pure rules in another module beside it.

The flags are in commands/, printing is in console/.
"""
