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

    NOT_AN_OBJECT = "not-an-object"
    MISSING_FIELD = "missing-field"
    WRONG_TYPE = "wrong-type"
    BAD_ID = "bad-id"
    BAD_NAME = "bad-name"
    BAD_TIMESTAMP = "bad-timestamp"
    NOT_ENCODABLE = "not-encodable"
    STORAGE_REFUSED = "storage-refused"


class InvalidNotification(BridgeError):
    """A payload is no notification; the message says what is wrong."""

    def __init__(self, reason: Reason, message: str) -> None:
        self.reason = reason
        super().__init__(message)


class TraceNotFound(BridgeError):
    """No notification of the trace is stored."""


class StorageError(BridgeError):
    """A storage cannot do what was asked."""


class StorageUnavailable(StorageError):
    """The storage does not answer now; the same call may succeed later."""


class StorageMisconfigured(StorageError):
    """The storage refuses until somebody changes rights, schema or URL."""


class StorageNotPrepared(StorageMisconfigured):
    """What the bridge makes at its first start, such as tables, is not there.

    As far as can be told, it may be made.
    """


class WriteRefused(StorageError):
    """What is written is the trouble, not the storage; it never succeeds."""


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
