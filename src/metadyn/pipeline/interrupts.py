"""Ctrl-C goes to every process of a terminal: this one answers it, those that it starts do not."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker


@contextmanager
def interrupts_held() -> Iterator[None]:
    """Answer Ctrl-C at the end; processes that are started meanwhile never receive it.

    They inherit that it is blocked; a handler of their own would come after their imports.
    """
    # Python's own helper process; its start would end the blocking
    resource_tracker.ensure_running()
    if (
        threading.current_thread() is not threading.main_thread()
    ):  # Ctrl-C is not for this thread to answer
        with blocked():
            yield
        return
    noted: list[int] = []
    before = signal.signal(
        signal.SIGINT, lambda *_: noted.append(1)
    )  # another thread may not block it
    try:
        with blocked():
            yield
    finally:
        signal.signal(signal.SIGINT, before)
        if noted:
            signal.raise_signal(signal.SIGINT)


@contextmanager
def blocked() -> Iterator[None]:
    """SIGINT waits, for this thread and for what it starts."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
