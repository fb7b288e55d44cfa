"""The figures of an experiment."""


def draw(name, bench, found, folder) -> None:
    """Not drawn yet."""
