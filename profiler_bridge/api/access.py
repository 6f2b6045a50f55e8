# SPDX-License-Identifier: Apache-2.0

"""Who may read: everybody, who is in a file, or who Keystone knows."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Collection, Iterable
from pathlib import Path
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

import webob.exc
from oslo_config import cfg
from oslo_middleware import basic_auth

from profiler_bridge import exceptions
from profiler_bridge.api import errors
from profiler_bridge.api.front import USER

# So many passwords are remembered at most.
_REMEMBERED = 1000


def guard(app: WSGIApplication, conf: cfg.ConfigOpts) -> WSGIApplication:
    """The application, for who may read.

    :raises ConfigurationError: an option of the strategy cannot be used, or
        what it needs is not installed
    """
    strategy = conf.api.auth_strategy
    conf.register_opts(basic_auth.OPTS, "oslo_middleware")
    if strategy == "http_basic":
        path = conf.oslo_middleware.http_basic_auth_user_file
        return BasicAuth(app, path)
    if strategy == "keystone":
        return _keystone(Roles(app, conf.api.roles), conf)
    return app


def _keystone(app: WSGIApplication, conf: cfg.ConfigOpts) -> WSGIApplication:
    try:
        # Imported here, for it need not be installed.
        from keystonemiddleware import auth_token
    except ImportError:
        raise exceptions.ConfigurationError(
            "auth_strategy in [api]: for keystone install"
            " profiler_bridge[keystone], from a checkout with"
            " pip install '.[keystone]'"
        ) from None
    try:
        guarded: WSGIApplication = auth_token.AuthProtocol(
            app, {"oslo_config_config": conf}
        )
    except Exception as error:  # noqa: BLE001 - Keystone's plugins raise any
        raise exceptions.ConfigurationError(
            f"[keystone_authtoken] cannot be used: {error}"
        ) from None
    return guarded


class Roles:
    """An application for who has one of some roles.

    :param app: behind keystonemiddleware, which has looked at the token
    """

    def __init__(self, app: WSGIApplication, roles: Collection[str]) -> None:
        self._app = app
        self._roles = {role.lower() for role in roles}

    def __call__(
        self, environ: WSGIEnvironment, start_response: StartResponse
    ) -> Iterable[bytes]:
        environ[USER] = environ.get("HTTP_X_USER_NAME", "")
        own = environ.get("HTTP_X_ROLES", "").lower().split(",")
        if not self._roles & {role.strip() for role in own}:
            needed = ", ".join(sorted(self._roles))
            return errors.reply(
                environ,
                start_response,
                403,
                f"this needs one of these roles: {needed}",
            )
        return self._app(environ, start_response)


class BasicAuth:
    """An application for users of a file, as oslo.middleware reads it.

    Its own middleware answers without ``WWW-Authenticate``, so no browser asks
    for a password; calls every error of the application a wrong password; and
    has no options but global ones.

    :param path: a file with lines like ``user:$2y$...``, of bcrypt; it is
        read again when it changes
    :raises ConfigurationError: it cannot be read, or has something else in it
    """

    def __init__(self, app: WSGIApplication, path: str) -> None:
        self._app = app
        self._path = path
        # bcrypt is slow by intent, and browsers send passwords each time.
        self._salt = secrets.token_bytes(32)
        self._right: set[tuple[object, str, bytes]] = set()
        try:
            basic_auth.validate_auth_file(path)
        except Exception:  # noqa: BLE001 - which, differs by release
            raise exceptions.ConfigurationError(
                f"http_basic_auth_user_file in [oslo_middleware]: {path}"
                " cannot be read, or has passwords that are not of bcrypt"
            ) from None

    def __call__(
        self, environ: WSGIEnvironment, start_response: StartResponse
    ) -> Iterable[bytes]:
        # The header is taken out, so nothing behind this gets to know it.
        user = self._user(environ.pop("HTTP_AUTHORIZATION", ""))
        if not user:
            return errors.reply(
                environ,
                start_response,
                401,
                "user and password are needed",
                [("WWW-Authenticate", 'Basic realm="profiler_bridge"')],
            )
        environ[USER] = user
        return self._app(environ, start_response)

    def _user(self, header: str) -> str | None:
        """Who it is; None for nobody that the file has."""
        try:
            token = basic_auth.parse_header({"HTTP_AUTHORIZATION": header})
            user, password = basic_auth.parse_token(token)
        except webob.exc.HTTPException:
            return None
        # What else would be logged as it is, and matches no line.
        if not user or not user.isprintable() or user.startswith("#"):
            return None
        state = Path(self._path).stat()
        version = (state.st_mtime_ns, state.st_size, state.st_ino)
        digest = hashlib.sha256(self._salt + password).digest()
        known = (version, user, digest)
        if known in self._right:
            return user
        try:
            basic_auth.authenticate(self._path, user, password)
        except webob.exc.HTTPUnauthorized:
            return None
        except ValueError:
            # bcrypt takes no NUL, and no more than 72 bytes.
            return None
        except webob.exc.HTTPException as error:
            raise OSError(f"{self._path} cannot be read") from error
        if len(self._right) >= _REMEMBERED:
            self._right.clear()
        self._right.add(known)
        return user
