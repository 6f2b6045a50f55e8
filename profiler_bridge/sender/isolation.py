# SPDX-License-Identifier: Apache-2.0

"""Each request has its own profiler, and leaves none behind on its thread.

osprofiler keeps the profiler of a thread until somebody takes it away, and
``osprofiler.profiler.init`` does nothing where there is one. Nothing takes it
away from a thread of a pool, which serves one RPC after the other: all that
comes after the first profiled one, profiled or not, would go on in its trace.

Of osprofiler's private names one is used, here only; it and all that is
replaced is held against the installed releases by
``tests/unit/test_isolation.py``.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from oslo_log import log as logging
from osprofiler import profiler

LOG = logging.getLogger(__name__)

_isolated = False


def isolate_requests() -> None:
    """Give each WSGI request and each job of a pool a profiler of its own.

    Each RPC is a job of a pool. So is what a service hands to another thread;
    if it hands the profiler over, which it does by ``init`` in the job, the
    job is in the trace of its request. Where one of these cannot be changed,
    the log has a line, and all else goes on.
    """
    global _isolated
    if _isolated:
        return
    _isolated = True
    for what, isolate in (
        ("WSGI requests", _isolate_wsgi_requests),
        ("Jobs of thread pools, such as RPC,", _isolate_jobs),
    ):
        failure = None
        try:
            isolate()
        except Exception as error:  # noqa: BLE001 - the service goes on
            failure = error
        if failure is not None:
            LOG.warning(
                "%s can get into the traces of earlier ones: %r", what, failure
            )


def _isolate_wsgi_requests() -> None:
    from osprofiler import web

    call = vars(web.WsgiMiddleware)["__call__"]

    def call_isolated(middleware: Any, *args: Any, **kwargs: Any) -> Any:
        # webob's decorator is a descriptor.
        bound = call.__get__(middleware, type(middleware))
        return _run_isolated(bound, *args, **kwargs)

    web.WsgiMiddleware.__call__ = call_isolated


def _isolate_jobs() -> None:
    # oslo.messaging's executors, and those of the services.
    import futurist

    pools: list[Any] = [futurist.ThreadPoolExecutor]
    if hasattr(futurist, "GreenThreadPoolExecutor"):  # while there is eventlet
        pools.append(futurist.GreenThreadPoolExecutor)
    for pool in pools:
        pool.submit = _submit_isolated(pool.submit)


def _submit_isolated(submit: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(submit)
    def submit_isolated(
        pool: Any, /, fn: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> Any:
        job = functools.partial(_run_isolated, fn)
        return submit(pool, job, *args, **kwargs)

    return submit_isolated


def _run_isolated(
    function: Callable[..., Any], /, *args: Any, **kwargs: Any
) -> Any:
    """Call a function on a thread that has no profiler.

    One that there was before is there again afterwards: a request can be
    served inside of another, by the same thread.
    """
    before = profiler.get()
    profiler.clean()
    try:
        return function(*args, **kwargs)
    finally:
        profiler.clean()
        if before is not None:
            _put_back(before)


def _put_back(before: Any) -> None:
    # init() would make another, which does not know what has been started.
    storage = getattr(profiler, "__local_ctx", None)
    if storage is not None:
        storage.profiler = before
