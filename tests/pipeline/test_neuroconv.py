"""A NeuroConv conversion that ends with latent dynamics writes what `metadyn annotate` writes.

NeuroConv 0.10 needs zarr 2, and the environment of the tests has 3: these are run in one of their
own by `make environments`.
"""

import numpy as np
import pytest
from jsonschema import ValidationError
from pynwb import NWBHDF5IO, read_nwb

import metadyn
from metadyn.errors import ModelFileError

neuroconv = pytest.importorskip(
    "neuroconv", reason="NeuroConv has an environment of its own: make environments"
)
OPTIONS = {"context": 20, "steps": 10}


@pytest.fixture(scope="module")
def converter_of():
    """converter_of(recording, model) → an NWBConverter of a lab's own interface of units and
    trials, and ours after it."""
    from metadyn.neuroconv import LatentDynamicsInterface

    class RecordingInterface(neuroconv.BaseDataInterface):
        """Units and trials as a lab has them, here in an NWB file."""

        def __init__(self, file_path: str):
            super().__init__(file_path=file_path)

        def add_to_nwbfile(self, nwbfile, metadata: dict | None = None):
            with NWBHDF5IO(self.source_data["file_path"], "r") as io:
                recorded = io.read()
                for row in range(len(recorded.units)):
                    nwbfile.add_unit(spike_times=recorded.units["spike_times"][row])
                for start, stop in zip(
                    recorded.trials["start_time"][:], recorded.trials["stop_time"][:], strict=True
                ):
                    nwbfile.add_trial(start_time=start, stop_time=stop)

    class Converter(neuroconv.NWBConverter):
        data_interface_classes = {  # noqa: RUF012  as NeuroConv wants it
            "Recording": RecordingInterface,
            "LatentDynamics": LatentDynamicsInterface,
        }

    def make(recording, model):
        return Converter(
            {
                "Recording": {"file_path": str(recording)},
                "LatentDynamics": {"model_path": str(model)},
            }
        )

    return make


@pytest.fixture(scope="module")
def annotated(world, tmp_path_factory):
    """The first recording, annotated by the model in its folder."""
    return metadyn.annotate(
        world.model, world.files[0], tmp_path_factory.mktemp("annotated"), **OPTIONS
    )[0]


def metadata_for(converter, name="LatentDynamics") -> dict:
    metadata = converter.get_metadata()
    metadata["NWBFile"] |= {
        "session_start_time": "2020-01-01T00:00:00+00:00",
        "session_description": "Simulated.",
    }
    metadata["LatentDynamics"]["name"] = name
    return metadata


@pytest.mark.filterwarnings(
    "ignore:.*Units table is not the one:UserWarning"
)  # a conversion makes a table anew
@pytest.mark.parametrize("home", ["folder", "file"])
def test_conversion_holds_what_annotate_writes(home, annotated, world, converter_of, tmp_path):
    converter = converter_of(world.files[0], {"folder": world.model, "file": annotated}[home])
    options = {"LatentDynamics": {"session": read_nwb(annotated).identifier, **OPTIONS}}
    converter.validate_conversion_options(options)
    path, metadata = tmp_path / "converted.nwb", metadata_for(converter, "Reach")
    converter.run_conversion(nwbfile_path=path, metadata=metadata, conversion_options=options)
    ours, theirs = (read_nwb(each).processing["ecephys"] for each in (path, annotated))
    assert ours["LatentDynamicsModel"].digest == theirs["LatentDynamicsModel"].digest
    assert ours["Reach"].model is ours["LatentDynamicsModel"]
    expected = theirs["LatentDynamics"].to_xarray()
    found = ours["Reach"].to_xarray()
    assert set(found) == set(expected) >= {"LatentSeriesForecast", "FiringRateSeries", "embeddings"}
    for name, dataset in expected.items():
        for variable in dataset.data_vars:
            np.testing.assert_allclose(
                found[name][variable], dataset[variable], rtol=1e-6, err_msg=f"{name}.{variable}"
            )
        np.testing.assert_array_equal(found[name].trial, dataset.trial)


def test_session_that_the_model_does_not_know_is_refused(world, converter_of, tmp_path):
    converter = converter_of(world.files[0], world.model)
    with pytest.raises(ModelFileError, match="session"):
        converter.run_conversion(
            nwbfile_path=tmp_path / "none.nwb", metadata=metadata_for(converter)
        )
    assert not (tmp_path / "none.nwb").exists()


def test_misspelt_options_and_metadata_are_refused(world, converter_of):
    converter = converter_of(world.files[0], world.model)
    with pytest.raises(ValidationError, match="contxt"):
        converter.validate_conversion_options({"LatentDynamics": {"contxt": 20}})
    metadata = metadata_for(converter)
    converter.validate_metadata(metadata)
    metadata["LatentDynamics"]["name"] = "a/b"
    with pytest.raises(ValidationError, match="a/b"):
        converter.validate_metadata(metadata)
