# SPDX-License-Identifier: Apache-2.0

"""The WSGI application: what it is made of, and what stands around it."""

from __future__ import annotations

from collections.abc import Mapping
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

import flask
from oslo_config import cfg
from oslo_middleware import cors, healthcheck, http_proxy_to_wsgi

from profiler_bridge import storage as storages
from profiler_bridge.api import access, errors, options
from profiler_bridge.api.compression import Compression
from profiler_bridge.api.front import ROUTE, Front
from profiler_bridge.storage.traces import Storage


def storage() -> Storage:
    """The storage that the current application reads."""
    configured: Storage = flask.current_app.config["STORAGE"]
    return configured


def make_app(
    conf: cfg.ConfigOpts,
    storage: Storage | None = None,
    *,
    is_local: bool = False,
) -> flask.Flask:
    """Make the application. Nothing is connected before its first request.

    So a server may make it once, and fork then.

    :param conf: with the options of ``profiler_bridge.storage``
    :param storage: what is read, by any number of threads; the first that is
        configured when None
    :param is_local: nobody but this machine reaches it, as far as is known;
        otherwise its pages say where there is no authentication
    :raises ConfigurationError: an option cannot be used
    """
    conf.register_opts(options.OPTS, options.GROUP)
    app = flask.Flask(__name__, static_folder=None)
    app.config["STORAGE"] = storage or storages.get_storages(conf)[0]
    app.config["OPTIONS"] = conf[options.GROUP]
    is_noauth = conf.api.auth_strategy == "noauth"
    app.config["IS_OPEN"] = is_noauth and not is_local
    app.config["TRUSTED_HOSTS"] = conf.api.trusted_hosts or None
    # Names of services and operations may well have two slashes.
    app.url_map.merge_slashes = False
    errors.register(app)
    app.before_request(_note_route)
    for blueprint in _blueprints():
        app.register_blueprint(blueprint)
    app.wsgi_app = _surround(app.wsgi_app, conf)  # type: ignore[assignment,method-assign]
    return app


def _blueprints() -> list[flask.Blueprint]:
    """What there is to be asked for; one line a part."""
    # Imported here, for they ask this module for the storage.
    from profiler_bridge.api import jaeger, native, pages, zipkin

    return [
        native.blueprint(),
        jaeger.blueprint(),
        zipkin.blueprint(),
        pages.blueprint(),
    ]


def _note_route() -> None:
    if flask.request.url_rule is not None:
        flask.request.environ[ROUTE] = flask.request.url_rule.rule


def _surround(app: WSGIApplication, conf: cfg.ConfigOpts) -> WSGIApplication:
    """Put around the application what is the same for all of it."""
    app = Compression(access.guard(app, conf))
    beside: dict[str, WSGIApplication] = {
        # It looks at no storage: that one is away is no reason to restart.
        "/healthcheck": healthcheck.Healthcheck(errors.not_found, conf)
    }
    counted = None
    if conf.api.metrics:
        # Imported here, for most do without.
        from profiler_bridge.api.metrics import Requests

        counted = Requests()
        beside["/metrics"] = counted.answer
    app = _beside(app, beside)
    # Each of oslo's makes Location absolute, so only where it is wanted.
    with_cors = cors.CORS(app, conf)
    if conf.cors.allowed_origin:
        app = with_cors
    app = Front(app, counted)
    behind_proxy = http_proxy_to_wsgi.HTTPProxyToWSGI(app, conf)
    if conf.oslo_middleware.enable_proxy_headers_parsing:
        app = behind_proxy
    return app


def _beside(
    app: WSGIApplication, others: Mapping[str, WSGIApplication]
) -> WSGIApplication:
    """The application, with others at some paths."""

    def answer(
        environ: WSGIEnvironment, start_response: StartResponse
    ) -> object:
        path = environ.get("PATH_INFO", "")
        if path in others:
            environ[ROUTE] = path
        return others.get(path, app)(environ, start_response)

    return answer  # type: ignore[return-value]
