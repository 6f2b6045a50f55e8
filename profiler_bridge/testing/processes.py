# SPDX-License-Identifier: Apache-2.0

"""The same at the same time: in threads, and in processes."""

from __future__ import annotations

import multiprocessing
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing.queues import SimpleQueue
from typing import Any

#: How many threads, or processes.
WRITERS = 4

# Seconds after which a process no longer waits for the others. They have
# failed by then.
_LONGEST_WAIT = 120

Inboxes = Sequence["SimpleQueue[int]"]


def in_threads(work: Callable[[int], object]) -> None:
    """Call ``work`` with 0, 1, ... at the same time; raise what it raises."""
    barrier = threading.Barrier(WRITERS)

    def together(number: int) -> None:
        barrier.wait()
        work(number)

    with ThreadPoolExecutor(WRITERS) as pool:
        list(pool.map(together, range(WRITERS)))


# Of a process that in_processes() started.
_barrier: threading.Barrier
_inboxes: Inboxes


def wait_for_others() -> None:
    """Come back when all processes of :func:`in_processes` call this."""
    _barrier.wait(_LONGEST_WAIT)


def inboxes() -> Inboxes:
    """Where processes leave numbers for each other: an inbox for each."""
    return _inboxes


def in_processes(
    work: Callable[..., Any], arguments: Sequence[tuple[Any, ...]]
) -> list[Any]:
    """Call a function in several processes at once.

    :param work: a function of a module that can be imported; it may call
        :func:`wait_for_others` and :func:`inboxes`
    :param arguments: for each process, what it is called with
    :returns: what it returned in each process
    """
    # Not forked: nobody knows which threads and connections pytest has.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    shared = (
        context.Barrier(len(arguments)),
        [context.SimpleQueue() for _ in arguments],
    )
    with ProcessPoolExecutor(
        len(arguments),
        mp_context=context,
        initializer=_share,
        initargs=shared,
    ) as pool:
        futures = [pool.submit(_call, work, given) for given in arguments]
    errors = [error for future in futures if (error := future.exception())]
    # One of them stopped the others.
    errors.sort(
        key=lambda error: isinstance(error, threading.BrokenBarrierError)
    )
    for error in errors:
        raise error
    return [future.result() for future in futures]


def _share(barrier: threading.Barrier, all_inboxes: Inboxes) -> None:
    global _barrier, _inboxes
    _barrier, _inboxes = barrier, all_inboxes


def _call(work: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    try:
        wait_for_others()
        return work(*arguments)
    except Exception:
        _barrier.abort()
        raise
