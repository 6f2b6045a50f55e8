# SPDX-License-Identifier: Apache-2.0

"""osprofiler's drivers of this project; to import it is to register them.

As a program it is osprofiler's own command, which then knows them::

    python3 -m profiler_bridge.osprofiler trace list
"""

from __future__ import annotations

import sys
from collections.abc import Collection
from typing import Any, NoReturn

from osprofiler import exc
from osprofiler.drivers import base

# Registers bridge://, which reads as well.
import profiler_bridge.sender.driver  # noqa: F401
from profiler_bridge.reading import served


class HTTPDriver(base.Driver):  # type: ignore[misc]
    """Reads from the HTTP service.

    See :class:`profiler_bridge.reading.answers.Answers`.

    :param connection_str: see :func:`profiler_bridge.reading.served.answers`
    :param project: given for a service, which cannot send by it
    :raises ValueError: for a service
    """

    sends = False

    def __init__(
        self,
        connection_str: str,
        project: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(connection_str)
        if project is not None:
            raise ValueError(
                f"{self.get_name()}:// only reads; a service sends by"
                " bridge://"
            )
        self._answers = served.answers(connection_str)

    @classmethod
    def get_name(cls) -> str:
        return "bridge+http"

    def notify(self, info: dict[str, Any], **kwargs: Any) -> NoReturn:
        raise exc.CommandError(
            f"{self.get_name()}:// only reads; services send by bridge://"
        )

    def get_report(self, base_id: str) -> dict[str, Any]:
        return self._answers.get_report(base_id)

    def list_traces(
        self, fields: Collection[str] | None = None
    ) -> list[dict[str, Any]]:
        return self._answers.list_traces(fields)

    def list_error_traces(self) -> list[dict[str, Any]]:
        return self._answers.list_error_traces()


class HTTPSDriver(HTTPDriver):
    """The same with TLS."""

    @classmethod
    def get_name(cls) -> str:
        return "bridge+https"


def main() -> int:
    """Run osprofiler's command.

    :returns: 0, or 1 after an error, which is on the standard output as
        osprofiler has it
    """
    from osprofiler.cmd import shell

    return shell.main(sys.argv[1:]) or 0


if __name__ == "__main__":
    sys.exit(main())
