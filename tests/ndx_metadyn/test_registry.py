"""A neurodata type is one file, one line and one entry of the schema: shown with a type that only
this test has."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import ndx_metadyn
from ndx_metadyn.containers.registry import standalone_types, type_of
from ndx_metadyn.testing.mock import mock_LatentSeries, mock_NWBFile

ROOT = Path(__file__).parents[2]

CONTAINER = '''
"""Inputs that drive the latent state."""
from hdmf.utils import AllowPositional, docval, popargs

from ndx_metadyn.containers.registry import neurodata_type
from ndx_metadyn.containers.series import (
    ESTIMATE_ARGUMENTS, NAME_AND_DATA, TIME_ARGUMENTS, EstimateSeries
)


@neurodata_type("InputSeries", run_field="input_series", variable="inputs", axis="input")
class InputSeries(EstimateSeries):
    @docval(*NAME_AND_DATA, *ESTIMATE_ARGUMENTS, *TIME_ARGUMENTS)
    def __init__(self, **kwargs):
        estimate = popargs("data_sd", "estimate", "horizon", kwargs)
        super().__init__(unit="a.u.", **kwargs)
        self._set_estimate(*estimate)
'''
LINE = "from ndx_metadyn.containers.inputs import InputSeries as InputSeries  # noqa: E402\n"
SPEC = """
def input_series() -> NWBGroupSpec:
    return NWBGroupSpec(
        neurodata_type_def="InputSeries", neurodata_type_inc="TimeSeries", doc="Inputs.",
        attributes=estimate_attributes(),
        datasets=[
            matrix("data", "Mean.", ("num_times", "num_inputs"), attributes=[attribute("unit", "a.u.")]),
            matrix("data_sd", "SD.", ("num_times", "num_inputs"), quantity="?"),
        ],
    )


SERIES_OF_A_RUN = {
    input_series: "Inputs.",
"""
USE = """
import sys
import numpy as np, pynwb
from pynwb import NWBHDF5IO
import ndx_metadyn
from metadyn.nwb.derive import derive
from metadyn.nwb.series import behavior_series
from ndx_metadyn.testing.mock import bin_centers, mock_LatentDynamics, mock_NWBFile

assert ndx_metadyn.__file__.startswith(sys.argv[1])
file = mock_NWBFile()
run = mock_LatentDynamics(file)
centers = bin_centers()
values = np.arange(centers.size * 3.0).reshape(-1, 3)
inputs = ndx_metadyn.InputSeries(name="u", data=values, data_sd=values + 1, timestamps=centers)
run.add_input_series(inputs)
with NWBHDF5IO("run.nwb", "w") as io:
    io.write(file)
derive("run.nwb", "derived.nwb")
assert not pynwb.validate(path="derived.nwb")
with NWBHDF5IO("derived.nwb", "r") as io:
    found = io.read()
    run = found.processing["ecephys"]["LatentDynamics"]
    named = run.to_xarray()["u"]
    assert named.inputs.dims == ("time", "input")
    assert np.array_equal(named.inputs, values) and np.array_equal(named.inputs_sd, values + 1)
    assert np.array_equal(named.time, centers)
    assert list(run.to_pynapple()) == ["embeddings", "LatentSeries", "FiringRateSeries", "u"]
    assert behavior_series(found) == {}
print("as written")
"""


def _insert(path: Path, before: str, text: str, with_anchor: bool = True) -> None:
    old = path.read_text()
    assert old.count(before) == 1, before
    path.write_text(old.replace(before, text + before * with_anchor))


def test_a_new_type_is_one_file_and_one_line_and_its_schema(tmp_path):
    """A copy of the package with InputSeries added; all readers meet it, none was changed."""
    shutil.copytree(ROOT / "ndx_metadyn", tmp_path / "ndx_metadyn")
    shutil.copytree(ROOT / "spec", tmp_path / "spec")
    (tmp_path / "ndx_metadyn" / "containers" / "inputs.py").write_text(CONTAINER)
    _insert(
        tmp_path / "ndx_metadyn" / "__init__.py",
        "from ndx_metadyn.containers.model import",
        LINE,
    )
    script = tmp_path / "spec" / "create_extension_spec.py"
    _insert(script, "SERIES_OF_A_RUN = {\n", SPEC, with_anchor=False)
    paths = os.pathsep.join([str(tmp_path), str(ROOT / "src")])
    environment = {**os.environ, "PYTHONPATH": paths}
    for command in ([str(script)], ["-c", USE, str(tmp_path)]):
        done = subprocess.run(
            [sys.executable, *command],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
    assert done.stdout == "as written\n"


def test_the_registry_knows_the_types_of_the_schema_and_where_they_lie():
    schema = (ROOT / "spec" / "ndx-metadyn.extensions.yaml").read_text()
    assert set(re.findall("neurodata_type_def: (.*)", schema)) == set(ndx_metadyn.TYPES)
    assert set(standalone_types()) == {"LatentDynamics", "LatentDynamicsModel"}


def test_the_type_of_an_object_is_that_of_the_class_it_derives_from():
    class Smoothed(ndx_metadyn.LatentSeries):
        pass

    latents = mock_LatentSeries()
    own = Smoothed(name="z", data=latents.data, timestamps=latents.timestamps)
    assert type_of(own) is ndx_metadyn.TYPES["LatentSeries"]
    assert own.to_xarray().latents.dims == ("time", "latent")
    with pytest.raises(LookupError, match="NWBFile is none of"):
        type_of(mock_NWBFile())
