"""The catalog: a SQLite file of what an archive has recorded, made from g3.files, and never a source of truth.

A program that needs it first updates it, then queries it; recording neither writes it nor waits for it. Frames, and
the files of the archive, are not read here. docs/analyse/catalog.md describes it for people.
"""
