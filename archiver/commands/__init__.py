"""The flags of `archiver`'s commands, a module for each.

What a command does is in the module of the same name beside this package. It is imported, with Kafka and all that it
needs, only once the arguments are right: --help and wrong usage don't wait for it.
"""
