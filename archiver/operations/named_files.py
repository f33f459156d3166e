"""The files of an archive that an operator names, one by one or by their directory. Pure."""

from collections.abc import Collection, Iterable


def named_files(names: Iterable[str], known: Collection[str], others: Collection[str] = ()) -> list[str]:
    """Return the paths that these names stand for, sorted.

    A directory stands for the files of `known` in it and in its subdirectories; any other name, and a path of `known`
    or `others`, for itself.
    """
    below: dict[str, list[str]] = {}
    for path in known:
        directory = path.rpartition("/")[0]
        while directory:
            below.setdefault(directory, []).append(path)
            directory = directory.rpartition("/")[0]
    found: set[str] = set()
    for name in names:
        found.update([name] if name in known or name in others else below.get(name, [name]))
    return sorted(found)
