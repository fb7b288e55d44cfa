"""The objects of a file of which pynwb refuses some series.

The rest is read as if those were not there, and why they are not is remembered.
"""

from __future__ import annotations

from hdmf.build import Builder, ConstructError, GroupBuilder
from pynwb import NWBHDF5IO, NWBFile, TimeSeries

from metadyn.nwb.builders import mend_tables
from ndx_metadyn.values import read_values

# Attribute under which an NWBFile keeps them, for as long as it is open
REFUSED_SERIES = "metadyn_left_out"


def read_objects(io: NWBHDF5IO) -> NWBFile:
    """As `io.read()`, but a series that pynwb cannot make costs only that series.

    Series that link to it are left out with it; see `refused_series`. Timestamps stored as one
    column or one row get the one dimension that NWB asks for; tables are mended as
    `metadyn.nwb.builders` says.

    Raises
    ------
    hdmf.build.ConstructError : an object that is no series cannot be made.
    """
    mend_tables(io.read_builder())  # which the io keeps
    refused: dict[str, str] = {}
    while True:  # each round mends or removes one series
        try:
            nwbfile = io.read()
        except ConstructError as error:
            builder, reason = error.args
            if not issubclass(io.manager.get_cls(builder), TimeSeries):
                raise
            if _flattened(builder):
                continue
            if not _leave_out(io.read_builder(), builder, str(reason), refused):
                raise
        else:
            setattr(nwbfile, REFUSED_SERIES, dict(sorted(refused.items())))
            return nwbfile


def refused_series(nwbfile: NWBFile) -> dict[str, str]:
    """Why each series that pynwb refused is not there.

    Returns
    -------
    dict of its path in the file (`processing/behavior/speed`) -> the reason.
    """
    return getattr(nwbfile, REFUSED_SERIES, {})


def _flattened(series: GroupBuilder) -> bool:
    """Whether timestamps (n, 1) or (1, n) stood in the way; they are (n,) afterwards."""
    stored = series.datasets.get("timestamps")
    shape = getattr(stored and stored.data, "shape", ())
    if len(shape) < 2 or max(shape) < stored.data.size:
        return False
    dict.__setitem__(stored, "data", read_values(stored.data).ravel())
    return True


def _leave_out(
    root: GroupBuilder, series: GroupBuilder, reason: str, refused: dict[str, str]
) -> bool:
    """Take a series, or what links to it where it is gone already, out of the tree.

    Parameters
    ----------
    root : builder of the file, which is changed.
    series : builder of the series that pynwb refused, for that `reason`.
    refused : reasons by path, to which those taken out are added.

    Returns
    -------
    Whether anything was taken.
    """
    path = _path(series)
    gone = [path] if path not in refused else [_path(each) for each in _linking(root, series)]
    why = _shapes(series) or reason.rpartition(" due to: ")[2]
    for each in gone:
        refused[each] = (
            why if each == path else f"it takes data or times from {path}, which cannot be read"
        )
        parent, _, name = each.rpartition("/")
        holder = root[parent] if parent else root
        holder.groups.pop(name)
        holder.obj_type.pop(name)
    return bool(gone)


def _linking(group: GroupBuilder, target: GroupBuilder) -> list[GroupBuilder]:
    """The groups at and below `group` that hold a link to the target or to a dataset in it."""
    linked = [link.builder for link in group.links.values()]
    own = [group] if any(each is target or each.parent is target for each in linked) else []
    return own + [found for each in group.groups.values() for found in _linking(each, target)]


def _path(builder: Builder) -> str:
    """`processing/behavior/speed`: where the builder lies below the root."""
    return builder.path.split("/", 1)[-1]


def _shapes(series: GroupBuilder) -> str | None:
    """The shapes of timestamps and data as a reason, where timestamps have not one dimension."""
    times, data = (
        getattr(getattr(series.datasets.get(name), "data", None), "shape", None)
        for name in ("timestamps", "data")
    )
    if times is None or len(times) == 1:
        return None
    return (
        f"timestamps of shape {times}, data of shape {data}: "
        "NWB has one time a sample, in one dimension"
    )
