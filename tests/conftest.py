"""Shared fixtures. Real recordings are found by METADYN_DATA (default ../shared/data beside the
checkout)."""

import gc
import json
import os
import subprocess
import sys
import threading
from collections import Counter
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import urlsplit

import pytest

os.environ.setdefault(
    "OMP_NUM_THREADS", "1"
)  # as pytest-xdist has a process for each core; before torch is loaded

REAL_DATA = Path(os.environ.get("METADYN_DATA", Path(__file__).parents[2] / "shared" / "data"))

# Everything that a run stores, read in a process in which our packages and torch cannot be
# imported.
READER = """
import sys
for name in ("ndx_metadyn", "metadyn", "torch"):
    sys.modules[name] = None  # importing it raises
import json, warnings
warnings.simplefilter(sys.argv[2])
import numpy as np
from pynwb import read_nwb
run = read_nwb(sys.argv[1]).processing["ecephys"]["LatentDynamics"]
latents, rates, table = run.latent_series["LatentSeries"], run.firing_rate_series["FiringRateSeries"], run.embeddings
assert not type(latents).__module__.startswith("ndx_metadyn"), type(latents)
windows = [table["timeseries"][row][0] for row in (0, 1, len(table) - 1)]
regular = latents.timestamps is None
times = latents.starting_time + np.arange(len(latents.data)) / latents.rate if regular else latents.timestamps
print(json.dumps({
    "latents": latents.data.shape, "rates": rates.data.shape, "unit": rates.unit, "n_windows": len(table),
    "window_totals": [float(np.sum(window.data, dtype="f8")) for window in windows],
    "embedding": np.asarray(table["embedding_mean"][:]).tolist()[0],
    "times": [float(times[0]), float(times[-1])], "start_times": table["start_time"][:].tolist(),
    "weights_begin": bytes(run.model.weights[8:9]).decode(), "digest": run.model.digest,
}))
"""


def pytest_terminal_summary(terminalreporter):
    """What tests say that they tried, by `record_property("tried", ...)`."""
    reports = [
        report for kind in ("passed", "failed") for report in terminalreporter.stats.get(kind, [])
    ]
    told = [text for report in reports for name, text in report.user_properties if name == "tried"]
    if told:
        terminalreporter.section("hostile files and kills")
        terminalreporter.write("\n".join([*sorted(told), ""]))


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real recordings; skips where it is absent."""
    if not REAL_DATA.is_dir():
        pytest.skip(f"no real recordings at {REAL_DATA}; set METADYN_DATA")
    return REAL_DATA


@pytest.fixture(scope="session")
def read_without_us():
    """read(path, warnings="error") → what a process without ndx_metadyn, metadyn and torch finds in
    an annotated file."""

    def read(path, warnings="error") -> dict:
        done = subprocess.run(
            [sys.executable, "-c", READER, str(path), warnings],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return read


def _errors(path, cached):
    import pynwb

    try:
        return Counter(
            str(error) for error in pynwb.validate(path=str(path), use_cached_namespaces=cached)
        )
    except KeyError:  # human_mtl caches a namespace in part
        return None


def _messages(path):
    from nwbinspector import inspect_nwbfile

    return Counter(
        (m.check_function_name, m.location, m.message)
        for m in inspect_nwbfile(nwbfile_path=str(path))
    )


@pytest.fixture(scope="session")
def assert_no_new_fault():
    """check(target, source): no validation error and no nwbinspector message that the source lacks
    under the same call."""

    def check(target, source) -> None:
        for cached in (True, False):
            before, after = _errors(source, cached), _errors(target, cached)
            assert (before is None) == (after is None)
            assert before is None or not after - before
        assert not _messages(target) - _messages(source)

    return check


DANDI = "from dandi.cli.command import main; main()"


@pytest.fixture(scope="session")
def dandi_validate(tmp_path_factory):
    """`dandi validate FOLDER`, the command itself → its exit code and what it says."""

    def run(folder):
        home = str(tmp_path_factory.mktemp("home"))
        environment = {**os.environ, "HOME": home, "XDG_STATE_HOME": home, "DANDI_NO_ET": "1"}
        command = [sys.executable, "-c", DANDI, "validate", folder]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
        return done.returncode, done.stdout + done.stderr

    return run


class Ranges(BaseHTTPRequestHandler):
    """Files of a folder, in ranges as object stores send them, and below /moved where they are.

    `server.trouble` says how to fail the next requests.
    """

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        file = self.server.folder / urlsplit(self.path).path.lstrip("/")
        trouble = self.server.trouble.pop(0) if self.server.trouble else self.server.always
        self.server.requests.append(self.headers)
        if self.path.startswith("/moved/"):
            self.answer(302, {"Location": self.path.removeprefix("/moved"), "Content-Length": "0"})
        elif trouble == "silent":
            self.close_connection = not threading.Event().wait(1)
        elif isinstance(trouble, int):
            self.answer(trouble, {"Content-Length": "0"})
        elif not file.is_file():
            self.answer(404, {"Content-Length": "0"})
        else:
            self.send_part(file, cut=trouble == "cut")

    def send_part(self, file, cut):
        first, last = map(int, self.headers["Range"].removeprefix("bytes=").split("-"))
        there = file.stat()
        last = min(last, there.st_size - 1)
        told = {
            "Content-Length": last - first + 1,
            "Content-Range": f"bytes {first}-{last}/{there.st_size}",
        }
        self.answer(206, {**told, "ETag": f'"{there.st_mtime_ns:x}-{there.st_size:x}"'})
        with file.open("rb") as stream:
            stream.seek(first)
            body = stream.read(last - first + 1)
        body = body[: len(body) // 2] if cut else body
        self.server.sent += len(body)
        self.wfile.write(body)
        self.close_connection = self.close_connection or cut

    def answer(self, status, headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, str(value))
        self.end_headers()

    def log_message(self, *_):
        """Nothing."""


@pytest.fixture
def serve(tmp_path, monkeypatch):
    """serve(folder) → a server on this machine: `url`, `sent` bytes, `requests` (their headers),
    and `trouble`.

    `trouble` is a list of what befalls the next requests: a status, "cut" in the middle or "silent"
    for a second; `always` is what befalls all others. The cache is the test's own, and waits
    between tries are short.
    """
    from metadyn.nwb import remote

    monkeypatch.setenv("METADYN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(remote, "BACK_OFF", 0.001)
    servers = []

    def start(folder):
        server = ThreadingHTTPServer(("127.0.0.1", 0), Ranges)
        server.folder, server.sent, server.requests, server.trouble, server.always = (
            Path(folder),
            0,
            [],
            [],
            None,
        )
        server.url = f"http://127.0.0.1:{server.server_port}"
        server.daemon_threads = True
        threading.Thread(
            target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        ).start()
        servers.append(server)
        return server

    # Collecting h5py's objects, the server's thread would wait for the lock that its reader holds
    gc.disable()
    yield start
    gc.enable()
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def new_nwb():
    """An empty NWBFile with these units (a list of spike times each; None for no Units table)."""

    import numpy as np
    from pynwb import NWBFile

    def make(
        spikes=((0.1, 0.2, 0.4), (0.15, 0.3)),
        obs_intervals=None,
        identifier="small",
        **unit_columns,
    ) -> object:
        nwbfile = NWBFile("a small file", identifier, datetime(2020, 1, 1, tzinfo=UTC))
        for name in unit_columns:
            nwbfile.add_unit_column(name, f"the {name}")
        for i, times in enumerate(spikes or ()):
            own = {name: values[i] for name, values in unit_columns.items()}
            observed = (
                {}
                if obs_intervals is None
                else {"obs_intervals": np.asarray(obs_intervals[i], dtype=float)}
            )
            nwbfile.add_unit(spike_times=np.asarray(times, dtype=float), **observed, **own)
        return nwbfile

    return make


@pytest.fixture
def add_trials():
    """Add trials of a length at the given starts, with more columns."""

    def add(nwbfile, starts, length=0.5, **columns) -> object:
        for name in columns:
            nwbfile.add_trial_column(name, f"the {name}")
        for i, start in enumerate(starts):
            nwbfile.add_trial(
                start_time=float(start),
                stop_time=start + length,
                **{name: v[i] for name, v in columns.items()},
            )
        return nwbfile

    return add


@pytest.fixture
def save(tmp_path):
    """Write an NWBFile and return its path."""

    from pynwb import NWBHDF5IO

    def write(nwbfile, name="small.nwb"):
        with NWBHDF5IO(tmp_path / name, "w") as io:
            io.write(nwbfile)
        return tmp_path / name

    return write


TINY = {
    "latent_hidden": 4,
    "embedding_hidden": 4,
    "readin_hidden": 4,
    "readin_dim": 3,
    "hidden": (4, 4),
    "hyper_hidden": 4,
}


@pytest.fixture(scope="session")
def tiny():
    """A model too small and too briefly trained to be good, which is not what these tests ask."""
    from metadyn import load_config

    training = {"steps": 3, "pretrain_steps": 2, "validate_every": 2, "trials_per_session": 3}
    return load_config(model=TINY, training=training, align={"steps": 1})


@pytest.fixture(scope="session")
def world(tmp_path_factory, tiny):
    """`files`: three recordings, `model`: a folder that knows the first two."""
    import metadyn

    folder = tmp_path_factory.mktemp("world")
    options = {"n_sessions": 3, "units": (6, 8), "n_trials": 8, "n_bins": 40}
    files = metadyn.simulate("limit-cycle", folder / "raw", **options)
    metadyn.fit(files[:2], folder / "model", tiny)
    return SimpleNamespace(folder=folder, files=files, model=folder / "model")


@pytest.fixture
def run():
    """run('inspect', path, …) → result with exit_code, stdout and stderr; options may be paths and
    numbers."""

    from typer.testing import CliRunner

    from metadyn.cli import app

    def invoke(*arguments):
        result = CliRunner(env={"COLUMNS": "250", "NO_COLOR": "1"}).invoke(
            app, [str(each) for each in arguments]
        )
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return invoke


@pytest.fixture
def file(world, tmp_path) -> Path:
    """A copy of the first recording, to be written to."""
    copy = tmp_path / world.files[0].name
    copy.write_bytes(world.files[0].read_bytes())
    return copy
