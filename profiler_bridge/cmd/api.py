# SPDX-License-Identifier: Apache-2.0

"""profiler-bridge-api: the service for reading, by itself."""

from __future__ import annotations

import logging
import signal
import sys
from typing import Any, NoReturn
from wsgiref.types import WSGIApplication

from oslo_config import cfg

from profiler_bridge import config, exceptions
from profiler_bridge.api.options import is_loopback
from profiler_bridge.text import printable

LOG = logging.getLogger(__name__)

# Bytes of an answer that wait for a slow client; then its thread does.
_WAITING = 2**20
# Bytes: nothing is sent to the service but questions.
_LONGEST_BODY = 2**16
_LONGEST_HEADERS = 2**16
# More clients than threads wait for one.
_CONNECTIONS = 500
# Seconds after which a client that does nothing is let go.
_TIMEOUT = 60


class _OneLine(logging.Filter):
    """Paths stand in waitress' messages as clients sent them."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = printable(record.getMessage()), ()
        return True


def check(conf: cfg.ConfigOpts) -> bool:
    """Refuse to show all traces to who has not said who it is.

    :param conf: with the options of [api]
    :returns: whether nobody but this machine reaches the service
    :raises ConfigurationError: anybody would be answered, at an address that
        is not loopback
    """
    options = conf.api
    try:
        is_local = is_loopback(options.host)
    except OSError as error:
        raise exceptions.ConfigurationError(
            f"host in [api]: {options.host}: {error.strerror}"
        ) from None
    may_be_reached = (
        options.auth_strategy != "noauth" or options.allow_remote_noauth
    )
    if not is_local and not may_be_reached:
        raise exceptions.ConfigurationError(
            f"host in [api]: {options.host} is not loopback, and auth_strategy"
            " is noauth: whoever reaches it would read all traces. Set"
            " auth_strategy, or allow_remote_noauth = true"
        )
    return is_local


def make_server(app: WSGIApplication, conf: cfg.ConfigOpts) -> Any:
    """A server of waitress, which listens already.

    :param conf: with the options of [api]
    :raises ConfigurationError: it cannot listen there
    """
    # Imported here, for it need not be installed.
    import waitress

    # It has a warning for each request that waits for a thread.
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)
    options = conf.api
    try:
        return waitress.create_server(
            app,
            host=options.host,
            port=options.port,
            threads=options.threads,
            # Whether they are read is an option of oslo.middleware.
            clear_untrusted_proxy_headers=False,
            connection_limit=_CONNECTIONS,
            asyncore_use_poll=True,
            channel_timeout=_TIMEOUT,
            outbuf_high_watermark=_WAITING,
            max_request_body_size=_LONGEST_BODY,
            max_request_header_size=_LONGEST_HEADERS,
            log_socket_errors=False,
            ident=None,
        )
    except (OSError, ValueError) as error:
        raise exceptions.ConfigurationError(
            f"[api]: cannot listen on {options.host} port {options.port}:"
            f" {getattr(error, 'strerror', None) or error}"
        ) from None


def make(conf: cfg.ConfigOpts) -> Any:
    """The server with the application, which listens already.

    :param conf: as :func:`profiler_bridge.config.load_api` gives it
    :raises ConfigurationError: it is refused, it cannot listen there, or what
        it needs is not installed
    """
    is_local = check(conf)
    try:
        # Imported here, for what it needs need not be installed.
        from profiler_bridge.api.app import make_app

        return make_server(make_app(conf, is_local=is_local), conf)
    except ModuleNotFoundError as error:
        raise exceptions.ConfigurationError(
            f"{error.name} is not installed: install profiler_bridge[api],"
            " from a checkout with pip install '.[api]'"
        ) from None


def _end(number: int, frame: object) -> NoReturn:
    # waitress ends what is under way, for five seconds at most.
    raise SystemExit(0)


def main() -> int:
    try:
        conf = config.load_api(sys.argv[1:], prog="profiler-bridge-api")
        config.set_up_logging(conf)
        server = make(conf)
    except exceptions.BridgeError as error:
        print(f"profiler-bridge-api: {error}", file=sys.stderr)
        return 1
    logging.getLogger("waitress").addFilter(_OneLine())
    signal.signal(signal.SIGTERM, _end)
    LOG.info("Listening on %s port %s", conf.api.host, conf.api.port)
    server.run()
    server.close()
    return 0
