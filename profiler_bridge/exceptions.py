# SPDX-License-Identifier: Apache-2.0

"""Every error of the project. The message of each is one line for a user."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from profiler_bridge.notification import Notification


class BridgeError(Exception):
    """Anything a user can cause and act on; commands print its message."""


class ConfigurationError(BridgeError):
    """An option is missing or cannot be understood."""


class BusUnavailable(BridgeError):
    """The bus does not answer, or refuses; the same may succeed later."""


class Reason(enum.StrEnum):
    """Why a notification is set aside; documented for operators."""

    NOT_JSON = "not-json"
    NOT_AN_OBJECT = "not-an-object"
    MISSING_FIELD = "missing-field"
    WRONG_TYPE = "wrong-type"
    BAD_ID = "bad-id"
    BAD_NAME = "bad-name"
    BAD_TIMESTAMP = "bad-timestamp"
    NOT_ENCODABLE = "not-encodable"
    STORAGE_REFUSED = "storage-refused"
    FAILED = "processing-failed"


class InvalidNotification(BridgeError):
    """A payload is no notification; the message says what is wrong."""

    def __init__(self, reason: Reason, message: str) -> None:
        self.reason = reason
        super().__init__(message)


class TraceNotFound(BridgeError):
    """No notification of the trace is stored."""


class ArchiveError(BridgeError):
    """Files of an archive cannot be written, or not be read further."""


class StorageError(BridgeError):
    """A storage cannot do what was asked."""


class StorageUnavailable(StorageError):
    """The storage does not answer now; the same call may succeed later."""


class SetAsideUnavailable(StorageUnavailable):
    """The set-aside file, not a storage, cannot be used now."""


class StorageMisconfigured(StorageError):
    """The storage refuses until somebody changes rights, schema or URL."""


class StorageNotPrepared(StorageMisconfigured):
    """What the bridge makes at its first start, such as tables, is missing.

    As far as it can tell, it has the right to make it.
    """


class WriteRefused(StorageError):
    """The same write never succeeds: the data is at fault, not the storage."""


class NotificationsRejected(StorageError):
    """Some notifications can never be stored; all others are.

    :param rejected: each refused notification with the storage's reason
    :param stored: how many of the others were not stored before
    """

    def __init__(
        self, rejected: Sequence[tuple[Notification, str]], stored: int
    ) -> None:
        self.rejected = rejected
        self.stored = stored
        super().__init__(
            f"{len(rejected)} notification(s) cannot be stored:"
            f" {rejected[0][1]}"
        )
