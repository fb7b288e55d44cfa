"""Ctrl-C while processes of this one are at work.

A terminal sends it to all of them. Only this process answers it, and ends the others in good order:
where each answered for itself, every one would print a traceback of its own.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker


@contextmanager
def interrupts_held() -> Iterator[None]:
    """Answer Ctrl-C at the end; processes that are started meanwhile never receive it.

    They inherit that it is blocked; a handler of their own would come after their imports. In
    another thread than the main one SIGINT is only blocked: Python answers it in the main thread.

    Raises
    ------
    KeyboardInterrupt : at the end, where Ctrl-C came meanwhile.
    """
    # Python's own helper process; its start would end the blocking
    resource_tracker.ensure_running()
    if threading.current_thread() is not threading.main_thread():
        # Ctrl-C is not for this thread to answer
        with blocked():
            yield
        return
    noted: list[int] = []
    # A thread that does not block the signal receives it: then it is noted here
    before = signal.signal(signal.SIGINT, lambda *_: noted.append(1))
    try:
        with blocked():
            yield
    finally:
        signal.signal(signal.SIGINT, before)
        if noted:
            signal.raise_signal(signal.SIGINT)


@contextmanager
def blocked() -> Iterator[None]:
    """SIGINT waits until the end, for this thread and for the processes that it starts."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
