# SPDX-License-Identifier: Apache-2.0

"""profiler-bridge-manage set-aside: messages that could not be stored."""

from __future__ import annotations

import argparse
import base64
import io
import json
from collections.abc import Container, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from cliff.lister import Lister

from profiler_bridge import config, exceptions
from profiler_bridge.body import decode_body
from profiler_bridge.cmd.app import BridgeCommand
from profiler_bridge.daemon.set_aside import SetAside, SetAsideMessage
from profiler_bridge.notification import Notification, points
from profiler_bridge.storage.traces import Storage
from profiler_bridge.text import printable

if TYPE_CHECKING:
    from profiler_bridge.masking import Masker

# Messages, and bytes of them, that are replayed in one write.
_BATCH = 500
_BATCH_BYTES = 2 << 20


class SetAsideCommand(BridgeCommand):
    """A command on the messages that were set aside."""

    @property
    def set_aside(self) -> SetAside:
        return SetAside.from_conf(self.conf)


class SetAsideSelection(SetAsideCommand):
    """A command on some of them."""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        which = parser.add_mutually_exclusive_group(required=True)
        which.add_argument(
            "id",
            nargs="*",
            type=int,
            default=[],
            help="The messages, by the numbers that 'set-aside list' shows.",
        )
        which.add_argument("--all", action="store_true", help="All messages.")
        return parser

    def ids(self, parsed_args: argparse.Namespace) -> list[int] | None:
        """The numbers that were asked for; None for all."""
        return None if parsed_args.all else parsed_args.id

    def report_missing(
        self, parsed_args: argparse.Namespace, present: Container[int]
    ) -> int:
        """Name the messages that were asked for, and are not there.

        :param present: the numbers of those that are
        :returns: the exit code
        """
        missing = [
            number for number in parsed_args.id if number not in present
        ]
        for number in missing:
            self.app.stderr.write(f"{number}: there is no such message\n")
        return 1 if missing else 0


class SetAsideList(SetAsideCommand, Lister):
    """List the messages that could not be stored, the oldest first"""

    def take_action(
        self, parsed_args: argparse.Namespace
    ) -> tuple[Sequence[str], Iterable[Any]]:
        return (
            ("ID", "Time (UTC)", "Reason", "Detail", "Source", "Bytes"),
            [
                (
                    message.id,
                    message.time,
                    message.reason.value,
                    printable(message.detail),
                    printable(message.source),
                    size,
                )
                for message, size in self.set_aside.sizes()
            ],
        )


class SetAsideShow(SetAsideSelection):
    """Print messages as they came, one a line

    JSON is printed as it is, anything else as 'base64:' and base64.
    """

    def take_action(self, parsed_args: argparse.Namespace) -> int:
        if isinstance(self.app.stdout, io.TextIOWrapper):
            # JSON is, whatever the locale.
            self.app.stdout.reconfigure(encoding="utf-8")
        shown = set()
        for message in self.set_aside.messages(self.ids(parsed_args)):
            self.app.stdout.write(f"{_as_line(message.to_bytes())}\n")
            shown.add(message.id)
        return self.report_missing(parsed_args, shown)


def _as_line(body: bytes) -> str:
    """A message for people and programs, without line ends.

    :returns: JSON as it is, but for what is not printable: between values a
        space, in a string its escape. Anything else: ``base64:`` and that
    """
    try:
        text = body.decode()
        is_json = True
        json.loads(text)
    except RecursionError:
        is_json = text.isprintable()
    except ValueError:
        is_json = False
    if not is_json:
        return f"base64:{base64.b64encode(body).decode()}"
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() else _escape(char) for char in text
    )


def _escape(char: str) -> str:
    # In a string of JSON none of these stands as it is.
    if char in "\t\n\r":
        return " "
    number = char.encode("utf-16-be").hex()
    return "".join(
        f"\\u{number[at : at + 4]}" for at in range(0, len(number), 4)
    )


class SetAsideReplay(SetAsideSelection):
    """Try to store messages again; those that are stored are dropped here"""

    def take_action(self, parsed_args: argparse.Namespace) -> int:
        for storage in self.storages:
            storage.prepare()
        replay = Replay(self.storages, self._masker())
        stored = left = 0
        replayed = set()
        set_aside = self.set_aside
        for batch in _batches(set_aside.messages(self.ids(parsed_args))):
            problems = replay(batch)
            for number, problem in problems.items():
                self.app.stderr.write(f"{number}: {printable(problem)}\n")
            numbers = {message.id for message in batch}
            set_aside.remove(numbers - problems.keys())
            replayed |= numbers
            left += len(problems)
            stored += len(batch) - len(problems)
        self.app.stdout.write(f"{stored} stored, {left} left\n")
        return self.report_missing(parsed_args, replayed) or (1 if left else 0)

    def _masker(self) -> Masker | None:
        """The daemon's."""
        # Imported here, for the patterns that it needs take long to compile.
        from profiler_bridge import masking

        files = self.app.options.config_file
        return masking.Masker.from_conf(
            config.prepare(
                [f"--config-file={path}" for path in files], masking
            )
        )


class Replay:
    """Stores messages in all storages, as the daemon would.

    :param masker: takes out secrets; None lets them be
    """

    def __init__(
        self, storages: Sequence[Storage], masker: Masker | None
    ) -> None:
        self._storages = storages
        self._decode = masker.decode if masker else Notification.from_payload

    def __call__(self, messages: Iterable[SetAsideMessage]) -> dict[int, str]:
        """Store what can be stored of them.

        :returns: by the numbers of those of which not all is stored, why;
            empty when everything is
        :raises StorageError: a storage does not take anything now
        """
        problems: dict[int, str] = {}
        valid: list[tuple[int, Notification]] = []
        for message in messages:
            try:
                for payload in points(_payload(message)):
                    try:
                        valid.append((message.id, self._decode(payload)))
                    except exceptions.InvalidNotification as error:
                        problems.setdefault(message.id, str(error))
            except exceptions.InvalidNotification as error:
                problems.setdefault(message.id, str(error))
            except Exception as error:  # noqa: BLE001 - it may be why it is here
                problems.setdefault(message.id, _describe(error))
        for storage in self._storages if valid else ():
            for number, problem in self._write(storage, valid):
                problems.setdefault(number, problem)
        return problems

    def _write(
        self, storage: Storage, valid: Sequence[tuple[int, Notification]]
    ) -> Iterator[tuple[int, str]]:
        """Write what can be written; the numbers of all else, and why."""
        try:
            storage.write([notification for _, notification in valid])
        except exceptions.NotificationsRejected as error:
            numbers = {
                id(notification): number for number, notification in valid
            }
            for notification, reason in error.rejected:
                yield numbers[id(notification)], reason
        except exceptions.StorageError:
            raise
        except Exception as error:  # noqa: BLE001 - a plugin's bug
            if len(valid) == 1:
                yield valid[0][0], _describe(error)
                return
            middle = len(valid) // 2
            yield from self._write(storage, valid[:middle])
            yield from self._write(storage, valid[middle:])


def _batches(
    messages: Iterable[SetAsideMessage],
) -> Iterator[list[SetAsideMessage]]:
    """Bounded as a worker's are."""
    batch: list[SetAsideMessage] = []
    size = 0
    for message in messages:
        batch.append(message)
        size += len(message.body)
        if len(batch) == _BATCH or size >= _BATCH_BYTES:
            yield batch
            batch = []
            size = 0
    if batch:
        yield batch


def _payload(message: SetAsideMessage) -> object:
    value = decode_body(message.to_bytes())
    return value.get("payload") if isinstance(value, dict) else value


def _describe(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


class SetAsideDrop(SetAsideSelection):
    """Delete messages for good"""

    def take_action(self, parsed_args: argparse.Namespace) -> int:
        if parsed_args.all:
            self.app.stdout.write(f"{self.set_aside.remove_all()} dropped\n")
            return 0
        dropped = self.set_aside.remove(parsed_args.id)
        self.app.stdout.write(f"{len(dropped)} dropped\n")
        return self.report_missing(parsed_args, dropped)
