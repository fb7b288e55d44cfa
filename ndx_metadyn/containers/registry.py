"""The neurodata types of this extension, each registered once, beside its class.

Views, checks, the fields of a run and readers elsewhere ask `TYPES` which types there are and where
their objects lie; nobody keeps a list of his own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from pynwb import register_class

from ndx_metadyn import NAMESPACE

Container = TypeVar("Container", bound=type)


@dataclass(frozen=True)
class NeurodataType:
    """One type and what has to be known of it wherever its objects are written, found or shown.

    Parameters
    ----------
    container : the class of its objects.
    standalone : whether its objects lie by themselves in a processing module; those of the other
        types lie inside such an object.
    run_field : the field of `LatentDynamics` that holds any number of its objects by name; None
        where a run holds none that way.
    variable, axis : names of its values and of their second axis in an xarray.Dataset, for types
        that hold an array (time, axis); empty for the others.
    """

    container: type
    standalone: bool = False
    run_field: str | None = None
    variable: str = ""
    axis: str = ""


TYPES: dict[str, NeurodataType] = {}  # by the name in the schema, in the order of import


def neurodata_type(
    name: str,
    *,
    standalone: bool = False,
    run_field: str | None = None,
    variable: str = "",
    axis: str = "",
) -> Callable[[Container], Container]:
    """Decorator of a container class: registers it with pynwb, and in `TYPES`, as the type `name`.

    The arguments are those of `NeurodataType`; the schema must define a type of that name.

    >>> from ndx_metadyn import TYPES
    >>> TYPES["LatentSeries"].run_field
    'latent_series'
    """

    def register(container: Container) -> Container:
        TYPES[name] = NeurodataType(container, standalone, run_field, variable, axis)
        return register_class(name, NAMESPACE)(container)

    return register


def standalone_types() -> tuple[str, ...]:
    """Names of the types whose objects lie by themselves in a processing module.

    >>> standalone_types()
    ('LatentDynamicsModel', 'LatentDynamics')
    """
    return tuple(name for name, known in TYPES.items() if known.standalone)


def types_by_run_field() -> dict[str, NeurodataType]:
    """The types of which a run holds any number by name, by the field that holds them.

    >>> list(types_by_run_field())
    ['latent_series', 'firing_rate_series']
    """
    return {known.run_field: known for known in TYPES.values() if known.run_field is not None}


def type_of(item: object) -> NeurodataType:
    """The registered type of an object, also where its class derives from a registered one.

    Raises LookupError for an object of another package.
    """
    for known in TYPES.values():
        if isinstance(item, known.container):
            return known
    raise LookupError(f"{type(item).__name__} is none of {', '.join(TYPES)}")
