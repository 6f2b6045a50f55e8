# SPDX-License-Identifier: Apache-2.0

"""osprofiler's driver for ``bridge://``; to import it is to register it.

It also has requests isolated, see :mod:`profiler_bridge.sender.isolation`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

from oslo_config import cfg
from osprofiler import exc
from osprofiler.drivers import base

if TYPE_CHECKING:
    from profiler_bridge.reading.answers import Answers
    from profiler_bridge.sender.notifier import BufferedNotifier

_OPTIONS: Mapping[str, Callable[[str], float]] = {
    "buffer_size": int,
    "batch_size": int,
    "max_age": float,
}


class BridgeDriver(base.Driver):  # type: ignore[misc]
    """Sends to the bus; where the URL has a path, reads from the storage.

    osprofiler takes the first driver that is called as the scheme is, so one
    has to do both.

    It sends through a ``sender.notifier.BufferedNotifier``. The bus is the one
    of osprofiler's ``messaging://``: that of the service. A process sends what
    has gathered before it ends, see :mod:`profiler_bridge.sender.ending`.

    It reads the first storage of a configuration file, see
    :mod:`profiler_bridge.reading.stored`.

    :param connection_str: ``bridge://``, or with another size of the buffer,
        in points, ``bridge://?buffer_size=20000``; to read,
        ``bridge:///etc/profiler_bridge/bridge.conf``
    :param project: the service's project, such as ``nova``
    :param service: its name, such as ``osapi_compute``
    :param host: where it runs
    :param context: given by osprofiler; not sent
    :param conf: the service's configuration; oslo.config's CONF if None
    :param transport_url: instead of the configuration's
    :raises ValueError: an option in the connection string is wrong, or there
        is a path in it and a project, which only services have
    :raises ConfigurationError: the configuration file cannot be used
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
        self._notifier: BufferedNotifier | None = None
        self._answers: Answers | None = None
        if urlsplit(connection_str).path.strip("/"):
            if project is not None:
                raise ValueError(
                    "bridge:// with a path only reads; a service sends by"
                    " bridge://"
                )
            from profiler_bridge.reading import stored

            self._answers = stored.answers(connection_str)
            return
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

    @property
    def sends(self) -> bool:
        """Whether it sends; otherwise it reads."""
        return self._notifier is not None

    def notify(
        self, info: dict[str, Any], context: object = None, **kwargs: Any
    ) -> None:
        if self._notifier is None:
            raise exc.CommandError(
                "bridge:// with a path only reads; services send by bridge://"
            )
        self._notifier.notify(info)

    def get_report(self, base_id: str) -> dict[str, Any]:
        return self._reading(f"show {base_id}").get_report(base_id)

    def list_traces(
        self, fields: Collection[str] | None = None
    ) -> list[dict[str, Any]]:
        return self._reading("list").list_traces(fields)

    def list_error_traces(self) -> list[dict[str, Any]]:
        return self._reading("list --error").list_error_traces()

    def _reading(self, command: str) -> Answers:
        if self._answers is None:
            raise exc.CommandError(
                "bridge:// only sends. The traces are in the storage of"
                f" profiler-bridge: run 'profiler-bridge-report {command}', or"
                " give the daemon's configuration file here, as"
                " bridge:///etc/profiler_bridge/bridge.conf"
            )
        return self._answers


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

    With it a service decides to be profiled. One that does not stays as it is,
    and so does who only reads by one of ours.
    """

    @functools.wraps(get_driver)
    def get_driver_and_isolate(*args: Any, **kwargs: Any) -> Any:
        driver = get_driver(*args, **kwargs)
        if not getattr(driver, "sends", True):
            return driver
        from profiler_bridge.sender import (
            isolation,
        )  # not at the top, as above

        isolation.isolate_requests()
        return driver

    return get_driver_and_isolate


base.get_driver = _isolate_with_driver(base.get_driver)
