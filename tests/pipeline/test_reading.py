"""Many files read by several processes: the same counts as by one, the same errors and notes, and
nothing left behind."""

import os
import pickle
import resource
import signal
import subprocess
import sys
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

import metadyn
from metadyn import errors
from metadyn.config import DataConfig, load_config
from metadyn.data.storage import is_on_disk
from metadyn.errors import DataError, MetadynError, MissingMetadataError, WindowError, WriteError
from metadyn.nwb.replace import private_name
from metadyn.pipeline import reading
from metadyn.pipeline.inputs import read_counts, recordings
from metadyn.pipeline.interrupts import interrupts_held
from metadyn.pipeline.reading import read_all, workers_for


@pytest.fixture
def always(monkeypatch):
    """Two processes read, however little there is."""
    monkeypatch.setattr(reading, "ENOUGH", 0)
    monkeypatch.setenv("LOKY_MAX_CPU_COUNT", "2")


@pytest.fixture
def pipe(tmp_path) -> Path:
    """A file that nobody ever finishes reading: a named pipe."""
    path = tmp_path / "pipe.nwb"
    os.mkfifo(path)
    return path


def children(of: int) -> list[int]:
    return [int(pid) for pid in Path(f"/proc/{of}/task/{of}/children").read_text().split()]


def readers(of: int) -> list[int]:
    return [
        pid for pid in children(of) if b"popen_loky" in Path(f"/proc/{pid}/cmdline").read_bytes()
    ]


def test_processes_read_what_one_reads_and_warn_of_it(world, file, tmp_path, always):
    with h5py.File(file, "r+") as damaged:
        damaged["units/spike_times"][0] = np.nan
        start, stop = damaged["units/obs_intervals"][3]
        damaged["units/obs_intervals"][3] = [
            start,
            (start + stop) / 2,
        ]  # the first unit is lost in the fourth trial
    given = recordings([world.files[1], f"damaged={file}", world.files[2]])
    name = private_name(tmp_path / "reading").name
    left = tmp_path / name.replace(
        f".{os.getpid()}.", ".999999999."
    )  # of a process that was killed
    left.mkdir()
    before, told = sorted(tmp_path.iterdir()), []
    with pytest.warns(UserWarning, match="1 spike times that are NaN"):
        read = read_all(given, DataConfig(), tmp_path, 0.0, told.append)
    with pytest.warns(UserWarning, match="1 spike times that are NaN"):
        expected = [read_counts(each, DataConfig()) for each in given]
    for one, other in zip(read, expected, strict=True):
        assert (one.session, one.source) == (other.session, other.source)
        assert one.counts.dtype == other.counts.dtype
        np.testing.assert_array_equal(one.counts, other.counts)
        np.testing.assert_array_equal(one.observed, other.observed)
        np.testing.assert_array_equal(one.windows.start, other.windows.start)
        assert is_on_disk(one.counts)
    assert [each.unit_observed is None for each in read] == [True, False, True]
    np.testing.assert_array_equal(read[1].unit_observed, expected[1].unit_observed)
    assert is_on_disk(read[1].unit_observed)
    assert told == [1, 2, 3]
    assert set(before) - set(tmp_path.iterdir()) == {left}


def test_sessions_stand_in_the_order_given_whichever_process_is_done_first(
    world, tmp_path, always, monkeypatch
):
    """Here the second is taken before the first."""
    monkeypatch.setattr(reading, "as_completed", lambda futures: reversed(list(futures)))
    given = recordings(world.files[:2])
    read = read_all(given, DataConfig(), tmp_path)
    assert [each.session for each in read] == [
        read_counts(each, DataConfig()).session for each in given
    ]


def test_an_error_in_a_process_is_the_error_of_one(world, tmp_path, always):
    given, data = recordings(world.files), DataConfig(where="reward == 1")
    with pytest.raises(MetadynError) as here:
        read_counts(given[0], data)
    with pytest.raises(type(here.value)) as there:
        read_all(given[:1] * 2, data, tmp_path)
    assert (str(there.value), vars(there.value)) == (str(here.value), vars(here.value))
    assert list(tmp_path.iterdir()) == []


KINDS = [
    each
    for each in vars(errors).values()
    if isinstance(each, type) and issubclass(each, MetadynError)
]


@pytest.mark.parametrize("kind", KINDS)
def test_errors_pass_from_process_to_process(kind):
    more = {
        MissingMetadataError: {"template": "x = 1"},
        WindowError: {"options": {"n_bins": 3}},
    }.get(kind, {})
    error = kind(
        "it is wrong", file=Path("a.nwb"), item="/units", found=3, remedy="another", **more
    )
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), vars(again)) == (kind, str(error), vars(error))


@pytest.mark.skipif(sys.platform != "linux", reason="finds processes in /proc")
def test_a_reader_that_is_killed_is_told_and_the_others_end(world, pipe, tmp_path, always):
    def kill(_) -> None:
        for pid in readers(os.getpid()):
            os.kill(pid, signal.SIGKILL)

    with pytest.raises(DataError, match=r"(?s)ended from outside.*SIGKILL.*LOKY_MAX_CPU_COUNT=1"):
        read_all(recordings([world.files[0], pipe]), DataConfig(), tmp_path, report=kill)
    assert readers(os.getpid()) == []
    assert list(tmp_path.iterdir()) == [pipe]


def gone(pids: list[int], within: float) -> bool:
    """Whether these processes end within so many seconds."""

    def lives(pid: int) -> bool:
        try:
            return "zombie" not in Path(f"/proc/{pid}/status").read_text()
        except (FileNotFoundError, ProcessLookupError):
            return False

    until = time.monotonic() + within
    while any(map(lives, pids)) and time.monotonic() < until:
        time.sleep(0.05)
    return not any(map(lives, pids))


def blocks_interrupts(pid: int) -> bool:
    """Whether SIGINT waits for ever in a process, as the system says: bit 1 of the mask of what is
    blocked."""
    status = Path(f"/proc/{pid}/status").read_text()
    mask = next(line.split()[1] for line in status.splitlines() if line.startswith("SigBlk"))
    return bool(int(mask, 16) >> (signal.SIGINT - 1) & 1)


INTERRUPTED = textwrap.dedent("""
    import signal, sys
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # a shell in the background hands down that it be ignored
    print("begun", flush=True)
    from metadyn.__main__ import main
    from metadyn.pipeline import reading
    reading.ENOUGH = 0
    sys.argv[0] = "metadyn"
    main()
""")


def interruptible_fit(files: list[Path], output: Path) -> subprocess.Popen:
    """`metadyn fit` by two processes that read, in a process group of its own, once it hears
    Ctrl-C."""
    command = [sys.executable, "-c", INTERRUPTED, "fit", *map(str, files), "-o", str(output)]
    options = {
        "stdout": subprocess.PIPE,
        "stderr": subprocess.PIPE,
        "text": True,
        "start_new_session": True,
    }
    fit = subprocess.Popen(command, env={**os.environ, "LOKY_MAX_CPU_COUNT": "2"}, **options)
    assert fit.stdout.readline() == "begun\n"
    return fit


@pytest.mark.skipif(sys.platform != "linux", reason="finds processes in /proc")
def test_ctrl_c_while_reading_stops_all_at_once_and_leaves_nothing(world, pipe, tmp_path):
    """The signal goes to all processes, as a terminal sends it, once one file is read and the other
    blocks for ever."""
    fit = interruptible_fit([world.files[0], pipe], tmp_path / "model")
    until = time.monotonic() + 240
    while len(readers(fit.pid)) < 2 and fit.poll() is None and time.monotonic() < until:
        time.sleep(0.05)
    assert all(map(blocks_interrupts, readers(fit.pid)))
    time.sleep(1)
    begun = children(fit.pid)
    os.killpg(fit.pid, signal.SIGINT)
    trouble = fit.communicate(timeout=60)[1]
    assert fit.returncode == 130, trouble
    assert "Traceback" not in trouble
    assert gone(begun, within=10)
    assert list(tmp_path.iterdir()) == [pipe]


@pytest.mark.skipif(sys.platform != "linux", reason="finds processes in /proc")
def test_readers_are_deaf_to_ctrl_c_from_their_first_moment(tmp_path):
    """Before they have imported a thing, where a handler of their own would come too late; and this
    process hears it again."""
    from loky import ProcessPoolExecutor

    pool = ProcessPoolExecutor(2)
    with interrupts_held():
        slept = [pool.submit(time.sleep, 0) for _ in range(2)]
    until = time.monotonic() + 60
    while len(begun := readers(os.getpid())) < 2 and time.monotonic() < until:
        pass
    assert all(map(blocks_interrupts, begun))
    assert not blocks_interrupts(os.getpid())
    for pid in begun:
        os.kill(pid, signal.SIGINT)
    assert [each.result(120) for each in slept] == [None, None]
    assert all(map(blocks_interrupts, begun))
    pool.shutdown(kill_workers=True)


def interrupted_while_held(reached: list[str]) -> None:
    with interrupts_held():
        os.kill(os.getpid(), signal.SIGINT)
        reached.append("the end")


def test_ctrl_c_while_processes_start_is_answered_when_they_have():
    reached = []
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            interrupted_while_held(reached)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        with interrupts_held():  # as of a job in the background, which does not hear it
            os.kill(os.getpid(), signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)
    assert reached == ["the end"]


def test_interrupts_are_held_in_a_thread_too():
    """Whose processes are deaf as well; answering is for the main thread."""
    with ThreadPoolExecutor(1) as threads:

        def masks() -> tuple[bool, bool]:
            with interrupts_held():
                inside = signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, [])
            return inside, signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, [])

        assert threads.submit(masks).result() == (True, False)


def imports(pid: int) -> bool:
    """Whether a process is so far as to have psutil, which loky imports before it runs a thing of
    ours."""
    try:
        return "/psutil/" in Path(f"/proc/{pid}/maps").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.skipif(sys.platform != "linux", reason="finds processes in /proc")
def test_ctrl_c_is_quiet_at_every_moment(world, pipe, tmp_path):
    """Runs that are interrupted, all processes at once, while they import, and while a reader
    does."""
    runs = [interruptible_fit([world.files[0], pipe], tmp_path / str(place)) for place in range(2)]
    time.sleep(0.5)  # both import something, on a busy machine the first of it
    os.killpg(runs[0].pid, signal.SIGINT)
    until = time.monotonic() + 240
    while (
        not any(map(imports, readers(runs[1].pid)))
        and runs[1].poll() is None
        and time.monotonic() < until
    ):
        time.sleep(0.01)
    os.killpg(runs[1].pid, signal.SIGINT)
    for run in runs:
        said, trouble = run.communicate(timeout=240)
        assert run.returncode in (130, -signal.SIGINT), trouble
        assert "Traceback" not in said + trouble
    assert {each.name for each in tmp_path.iterdir()} <= {pipe.name, "0", "1"}


@pytest.mark.parametrize("enough", [0, 2**40], ids=["processes", "one"])
def test_a_full_disk_is_told_and_leaves_nothing(world, tmp_path, monkeypatch, always, enough):
    monkeypatch.setattr(reading, "ENOUGH", enough)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500, before[1]))
    try:
        with pytest.raises(WriteError, match=r"(?s)kept on disk.*`output`.*`memory`"):
            read_all(recordings(world.files[:2]), DataConfig(), tmp_path, 0.0)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list(tmp_path.iterdir()) == []


def test_so_many_counts_are_in_memory_as_were_asked_for(world, tmp_path):
    size = read_counts(recordings(world.files)[0], DataConfig()).counts.nbytes
    read = read_all(recordings(world.files), DataConfig(), tmp_path, 1.5 * size / 2**30)
    assert [is_on_disk(each.counts) for each in read] == [False, True, True]


def test_a_model_of_counts_on_disk_is_that_of_counts_in_memory(world, tmp_path, tiny):
    config = load_config(
        base=tiny.model_dump(exclude_unset=True), training={"sessions_per_step": 1}
    )
    one, other = (
        metadyn.fit(world.files[:2], None, config, memory=memory) for memory in (1.0, 0.0)
    )
    assert all(
        torch.equal(value, other.module.state_dict()[name])
        for name, value in one.module.state_dict().items()
    )
    with pytest.warns(UserWarning, match="sessions_per_step=20"):
        metadyn.fit(world.files[:2], None, tiny, memory=0.0)


def test_processes_read_where_there_is_much_to_read_and_all_are_files(world, monkeypatch):
    monkeypatch.setenv("LOKY_MAX_CPU_COUNT", "2")
    (one,) = recordings(world.files[:1])
    assert [workers_for([one] * number) for number in (1, 10, 100)] == [1, 1, 2]
    assert workers_for([*[one] * 100, *recordings([metadyn.read_session(one.source)])]) == 1
