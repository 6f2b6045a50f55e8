# SPDX-License-Identifier: Apache-2.0

"""osprofiler's driver for ``bridge://``; to import it is to register it.

It also has requests isolated, see :mod:`profiler_bridge.sender.isolation`.
These two modules are all that needs osprofiler.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, NoReturn
from urllib.parse import parse_qsl, urlsplit

from oslo_config import cfg
from osprofiler import exc
from osprofiler.drivers import base

_OPTIONS: Mapping[str, Callable[[str], float]] = {
    "buffer_size": int,
    "batch_size": int,
    "max_age": float,
}


class BridgeDriver(base.Driver):  # type: ignore[misc]
    """Sends through a ``sender.notifier.BufferedNotifier``.

    The bus is the one of osprofiler's ``messaging://``: that of the service.
    A process sends what has gathered before it ends, see
    :mod:`profiler_bridge.sender.ending`.

    :param connection_str: ``bridge://``, or with another size of the buffer,
        in points, ``bridge://?buffer_size=20000``
    :param project: the service's project, such as ``nova``
    :param service: its name, such as ``osapi_compute``
    :param host: where it runs
    :param context: given by osprofiler; not sent
    :param conf: the service's configuration; oslo.config's CONF if None
    :param transport_url: instead of the configuration's
    :raises ValueError: an option in the connection string is wrong
    :raises Exception: oslo.messaging's, when the bus is not configured right
    """

    def __init__(
        self,
        connection_str: str,
        project: str | None = None,
        service: str | None = None,
        host: str | None = None,
        context: object = None,
        conf: cfg.ConfigOpts | None = None,
        transport_url: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            connection_str, project=project, service=service, host=host
        )
        # Not at the top: programs import osprofiler, and with it this, long
        # before they decide on a bus, or have eventlet patch the library.
        from profiler_bridge.sender import (  # noqa: I001 - quiets the next
            ending,
            notifier,
        )
        import oslo_messaging

        transport = functools.partial(
            oslo_messaging.get_notification_transport,
            cfg.CONF if conf is None else conf,
            url=transport_url,
        )
        transport().cleanup()  # now, while somebody reads the errors
        options = _options(connection_str)
        self._notifier = notifier.BufferedNotifier(
            transport,
            host,
            project,
            service,
            on_start=ending.watch_signals,
            **options,
        )
        ending.call_at_end(self._notifier.flush)

    @classmethod
    def get_name(cls) -> str:
        return "bridge"

    def notify(
        self, info: dict[str, Any], context: object = None, **kwargs: Any
    ) -> None:
        self._notifier.notify(info)

    def get_report(self, base_id: str) -> NoReturn:
        raise exc.CommandError(
            "bridge:// only sends. The traces are in the storage of"
            f" profiler-bridge: run 'profiler-bridge-report show {base_id}',"
            " or give the storage's connection string here"
        )

    def list_traces(self, fields: set[str] | None = None) -> NoReturn:
        raise exc.CommandError(
            "bridge:// only sends. The traces are in the storage of"
            " profiler-bridge: run 'profiler-bridge-report list'"
        )


def _options(connection_str: str) -> dict[str, Any]:
    """What the query of a connection string says for the notifier."""
    options = {}
    for name, text in parse_qsl(
        urlsplit(connection_str).query, keep_blank_values=True
    ):
        if name not in _OPTIONS:
            raise ValueError(
                f"bridge:// has no option {name}; it has {', '.join(_OPTIONS)}"
            )
        try:
            options[name] = _OPTIONS[name](text)
        except ValueError:
            raise ValueError(
                f"{name} in bridge://?{name}={text} is no number"
            ) from None
    return options


def _isolate_with_driver(get_driver: Callable[..., Any]) -> Callable[..., Any]:
    """Have requests isolated once osprofiler has made a driver, of any kind.

    With it a service decides to be profiled. One that does not stays as it is.
    """

    @functools.wraps(get_driver)
    def get_driver_and_isolate(*args: Any, **kwargs: Any) -> Any:
        driver = get_driver(*args, **kwargs)
        from profiler_bridge.sender import (
            isolation,
        )  # not at the top, as above

        isolation.isolate_requests()
        return driver

    return get_driver_and_isolate


base.get_driver = _isolate_with_driver(base.get_driver)
