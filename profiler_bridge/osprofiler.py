# Licensed under the Apache License, Version 2.0 (the "License"); you may
# not use this file except in compliance with the License. You may obtain
# a copy of the License at
#
#      http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
# WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the
# License for the specific language governing permissions and limitations
# under the License.

"""osprofiler's driver for ``bridge://``; to import it is to register it.

The only module that needs osprofiler.
"""

from __future__ import annotations

import functools
from typing import Any, NoReturn
from urllib.parse import parse_qsl, urlsplit

from oslo_config import cfg
from osprofiler import exc
from osprofiler.drivers import base


class BridgeDriver(base.Driver):  # type: ignore[misc]
    """Sends through a :class:`~profiler_bridge.notifier.BufferedNotifier`.

    The bus is the one of osprofiler's ``messaging://``: that of the service.

    :param connection_str: ``bridge://``, or with another size of the buffer,
        in points, ``bridge://?buffer_size=20000``
    :param project: the service's project, such as ``nova``
    :param service: its name, such as ``osapi_compute``
    :param host: where it runs
    :param context: given by osprofiler; not sent
    :param conf: the service's configuration; oslo.config's CONF if None
    :param transport_url: instead of the configuration's
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
        from profiler_bridge import notifier  # noqa: I001 - quiets the next
        import oslo_messaging

        transport = functools.partial(
            oslo_messaging.get_notification_transport,
            cfg.CONF if conf is None else conf,
            url=transport_url,
        )
        transport().cleanup()  # now, while somebody looks at the errors
        options = dict(parse_qsl(urlsplit(connection_str).query))
        self._notifier = notifier.BufferedNotifier(
            transport,
            host,
            project,
            service,
            **{name: int(value) for name, value in options.items()},
        )

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
