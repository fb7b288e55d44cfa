"""An interface for NeuroConv: after the interface of a sorting, latent dynamics of its units in the
same conversion.

    from metadyn.neuroconv import LatentDynamicsInterface

    class MyConverter(NWBConverter):
        data_interface_classes = {"Sorting": PhySortingInterface, "LatentDynamics":
        LatentDynamicsInterface}

Needs NeuroConv (extra `neuroconv`); nothing else in this package imports it. Tested with
NeuroConv's HDF5 backend, not with Zarr.
"""

from neuroconv import BaseDataInterface
from neuroconv.utils import DeepDict
from pydantic import DirectoryPath, FilePath, validate_call
from pynwb import NWBFile

from metadyn.nwb.write import RUN_DESCRIPTION, prepare_run
from metadyn.pipeline.annotation import results
from metadyn.pipeline.inputs import Recording
from metadyn.pipeline.models import load_model, on_device

METADATA = "LatentDynamics"  # key of the name and description of the run


class LatentDynamicsInterface(BaseDataInterface):
    """Runs a trained model on the units that the NWBFile holds by then, and adds latents, rates,
    embeddings and the model.

    It comes after the interfaces that add units and trials. Times are those of the units, so there
    is nothing to align.
    """

    display_name = "Latent dynamics"
    keywords = ("latent dynamics", "dynamical embedding", "firing rates")
    associated_suffixes = (".nwb",)
    info = (
        "Latent dynamics, firing rates and dynamical embeddings inferred by a trained model of "
        "ndx-metadyn."
    )

    @validate_call
    def __init__(self, model_path: DirectoryPath | FilePath, verbose: bool = False) -> None:
        """Parameters
        ----------
        model_path : DirectoryPath or FilePath
            Folder that `metadyn fit` or `metadyn align` wrote, or an NWB file that `metadyn
            annotate` put the model into.
        verbose : bool, default: False
            As of every interface; this one says nothing.
        """
        super().__init__(verbose=verbose, model_path=model_path)

    def get_metadata_schema(self) -> dict:
        """The base schema, and under `LatentDynamics` name and description of the run."""
        schema = super().get_metadata_schema()
        text = {"type": "string", "minLength": 1}
        schema["properties"][METADATA] = {
            "type": "object",
            "required": ["name", "description"],
            "properties": {"name": {**text, "pattern": "^[^/]*$"}, "description": text},
            "additionalProperties": False,
        }
        return schema

    def get_metadata(self) -> DeepDict:
        """The basic metadata, and under `LatentDynamics` name and description of the run."""
        metadata = super().get_metadata()
        metadata[METADATA] = {"name": "LatentDynamics", "description": RUN_DESCRIPTION}
        return metadata

    def add_to_nwbfile(
        self,
        nwbfile: NWBFile,
        metadata: dict | None = None,
        session: str | None = None,
        context: int | None = None,
        steps: int = 20,
        device: str = "auto",
    ) -> None:
        """Infer latents, rates and embeddings from the file's units, and add them and the model to
        processing module `ecephys`.

        Parameters
        ----------
        nwbfile : pynwb.NWBFile
            With units and, as for the model's training, trials.
        metadata : dict, optional
            As `get_metadata` gives it.
        session : str, optional
            Name by which the model knows the session; by default the file's identifier.
        context : int, optional
            Also add forecasts of the bins after this many bins of each window.
        steps : int, default: 20
            Bins to forecast.
        device : str, default: "auto"
            auto, cpu or cuda.

        Raises
        ------
        ModelFileError : the model knows no such session; align it to one first (`metadyn align`).
        DataError, WindowError : the file lacks units of the model, or windows to run it on.
        """
        trained = on_device(load_model(self.source_data["model_path"]), device)
        named = (metadata or self.get_metadata())[METADATA]
        found = results(trained, Recording(nwbfile, session), None, context, steps)
        prepare_run(**found, **named, model=trained.file())(nwbfile)
