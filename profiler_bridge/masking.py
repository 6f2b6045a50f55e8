# SPDX-License-Identifier: Apache-2.0

"""Secrets, taken out of payloads before anything is stored."""

from __future__ import annotations

import re
import string
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import unquote_plus

from oslo_config import cfg
from oslo_utils import strutils

from profiler_bridge.allow_list import MASK, AllowList
from profiler_bridge.notification import Notification

GROUP = "bridge"
OPTS: Sequence[cfg.Opt] = [
    cfg.BoolOpt(
        "mask_secrets",
        default=True,
        help="Replace secrets by three asterisks before notifications are"
        " stored: values of keys that name a secret, such as password or"
        " auth_token, also in a text that has JSON or a query in it; and,"
        " anywhere, Fernet and JWT tokens, private keys, hashes of passwords,"
        " and passwords in URLs.",
    ),
    cfg.ListOpt(
        "mask_keys",
        default=[],
        help="Further keys whose values are secrets. Any key that contains one"
        " of these, in upper or lower case, is masked.",
    ),
    cfg.ListOpt(
        "mask_all_but",
        default=[],
        help="The only keys of a notification's info that are stored; all"
        " else is replaced by three asterisks. Keys of nested objects are"
        " joined by points: host, request.method, request.path, db.statement,"
        " function.name, etype. mask_secrets holds for these, too. By default"
        " everything is stored.",
    ),
]

# Keys are few and short, unless somebody makes up others.
_KEYS_KEPT = 10_000
_LONGEST_KEY_KEPT = 100

# Cloud-init's files, with passwords in them: a secret as a whole, also where
# the value is an object.
_WHOLE = ("user_data", "user-data", "userdata", "injected_files")
# Parts of keys that oslo.utils does not know.
_KEYS = (
    *("auth_key", "access_key", "accountkey", "api_key", "apikey"),
    *("authorization", "cookie", "passwd", "provider_auth", "temp_url_key"),
    *_WHOLE,
)

# Every pattern below takes time in proportion to the text's length: no part
# of a text is read again from each place within it. So repetitions are
# possessive, begin where the one before ended, and take the rest of the text
# where an end is missing.

# JWT: two JSON objects and a signature, in base64url (RFC 7519). The second
# and the third part are optional here, so that what only begins like a JWT is
# read once.
_find_jwt = re.compile(
    r"eyJ[\w-]{10,}+(\.eyJ[\w-]{10,}+\.[\w-]{10,}+)?", re.ASCII
).sub


def _mask_jwt(jwt: re.Match[str]) -> str:
    return MASK if jwt[1] else jwt[0]


# Version 0x80 and a 64-bit time of which the first bytes are zero, then at
# least 56 bytes more, in base64url (github.com/fernet/spec).
_replace_fernet = re.compile(r"gAAAAA[\w-]{80,}+={0,2}", re.ASCII).sub

# RFC 7468, and those of OpenSSH and PGP.
_replace_private_key = re.compile(
    r"-----BEGIN (?:[A-Z0-9]+ ){0,3}PRIVATE KEY(?: BLOCK)?-----.*?"
    r"(?:-----END (?:[A-Z0-9]+ ){0,3}PRIVATE KEY(?: BLOCK)?-----|\Z)",
    re.DOTALL,
).sub

# Hashes of passwords: $2b$..., $scrypt$... and $pbkdf2-sha512$... as Keystone
# stores them (passlib's modular crypt format) and crypt(3), then
# scrypt:32768:8:1$... and pbkdf2_sha256$... as Werkzeug and Django do.
_replace_hash = re.compile(
    r"(?:\$(?:2[abxy]?|5|6|y|bcrypt-sha256|scrypt|pbkdf2(?:-\w{1,20})?"
    r"|argon2\w{0,2})|(?:scrypt|pbkdf2)[:_][\w:]{1,40})"
    r"\$[\w./+=,$-]{20,}+",
    re.ASCII,
).sub

# The password in ://user:password@host, and in a list of hosts, as transport
# URLs have it, that of each host. Also one with a slash that should have been
# %2F, but not a port with a path behind it.
_replace_password = re.compile(
    r"""(://[^\s/?#:@,'"<>]*+:|,[^\s/?#:@,'"<>]++:)[^\s/?#,'"<>]*@
    |(://[^\s/?#:@,'"<>]*+:)(?!\d*+(?:[/?#,]|\Z))(?:(?!://)[^\s'"<>@])*+@""",
    re.VERBOSE,
).sub


def _mask_password(password: re.Match[str]) -> str:
    return f"{password[1] or password[2]}{MASK}@"


# A key in JSON or in the repr() of a dictionary. Where that is within a text
# itself, the key's quotes are escaped; _mask_keyed looks at the first one.
_find_key = re.compile(
    r"""(['"])([^'"\\]++)(?P<escape>\\{0,7})\1\s*+:\s*+"""
).search
# An assignment, as in the query of a URL, but not of a placeholder of SQL;
# with some space, as SQL has it, where a text in quotes follows.
_find_assignment = re.compile(
    r"""=(?![\s=?:]|%[(s]|\$\d)|=\s{1,20}(?=\\{0,7}['"])"""
).search
_IN_NAMES = f"{string.ascii_letters}{string.digits}_.%~-"
_LONGEST_NAME = 100
# As SQL has it behind a column's name.
_BEHIND_NAMES = (" ", "\t", "\n", '"', "`", "]")

_match_opening = re.compile(r"""[bru]{0,2}(\\{0,7}['"])""").match
_match_rest = {
    quote: re.compile(
        rf"(?:[^{quote}\\]|\\.)*+(?:{quote}|\\?\Z)", re.DOTALL
    ).match
    for quote in "'\""
}
_match_number = re.compile(r"-?\d[\w.+-]*+").match
# A value without quotes, up to the end of a parameter or of an argument. None
# and the like are no secrets.
# The last repetition is not possessive: before Python 3.11.5 one with a
# look-ahead in it matches too much (github.com/python/cpython, issue 106052).
_match_bare = re.compile(
    r"""(?!(?:None|True|False|null|true|false)\b)
    [^&\s'"<>#;)\]},]++ (?:,(?!\s?[\w.]{1,60}=)[^&\s'"<>#;)\]},]*+)*""",
    re.VERBOSE,
).match
_find_brackets = re.compile(
    r"""'(?:[^'\\]|\\.)*+(?:'|\\?\Z)|"(?:[^"\\]|\\.)*+(?:"|\\?\Z)
    |\\.|[][(){}]""",
    re.VERBOSE | re.DOTALL,
).finditer


def _end_of_text(text: str, opening: re.Match[str]) -> int:
    """Where a text ends that begins with this quote."""
    quote, at = opening[1], opening.end()
    if len(quote) == 1:
        rest = _match_rest[quote](text, at)
        return rest.end() if rest else at
    # A quote with more backslashes belongs to a text inside this one.
    while (at := text.find(quote, at)) >= 0 and text[at - 1] == "\\":
        at += 1
    return len(text) if at < 0 else at + len(quote)


def _end_of_brackets(text: str, at: int) -> int:
    """Where a list or an object ends that begins here."""
    depth = 0
    for bracket in _find_brackets(text, at):
        if bracket[0] in "[({":
            depth += 1
        elif bracket[0] in "])}":
            depth -= 1
            if not depth:
                return bracket.end()
    return len(text)


class _SecretKeys(dict[str, bool]):
    """Whether a key names a secret, worked out once for each key.

    :param extra: a key that contains one of these, in lower case, names a
        secret too, beside those of oslo.utils and :data:`_KEYS`
    """

    def __init__(self, extra: Iterable[str]) -> None:
        self._extra = (*_KEYS, *extra)

    def __missing__(self, key: str) -> bool:
        lower = key.lower()
        secret = any(part in lower for part in self._extra) or (
            strutils.mask_dict_password({key: "x"}, MASK)[key] == MASK
        )
        if len(key) <= _LONGEST_KEY_KEPT:
            if len(self) >= _KEYS_KEPT:
                self.clear()
            self[key] = secret
        return secret


class Masker:
    """Takes secrets out of payloads.

    :param keys: a key that contains one of these names a secret too
    :param kept: what of an info is stored at all; None for everything
    :param secrets: whether what is stored is looked through for secrets
    """

    def __init__(
        self,
        keys: Iterable[str] = (),
        kept: AllowList | None = None,
        secrets: bool = True,
    ) -> None:
        self._is_secret = _SecretKeys(key.lower() for key in keys if key)
        self._kept = kept
        self._secrets = secrets

    @classmethod
    def from_conf(cls, conf: cfg.ConfigOpts) -> Masker | None:
        """Make the one that is configured; None where all is to stay."""
        options = conf[GROUP]
        names = options.mask_all_but
        if not (options.mask_secrets or names):
            return None
        kept = AllowList(names) if names else None
        return cls(options.mask_keys, kept, options.mask_secrets)

    def decode(self, payload: object) -> Notification:
        """As :meth:`Notification.from_payload`, without secrets in its info.

        All else, such as ids and names, identifies the notification and stays
        as it is, whatever the configured keys are.

        :raises InvalidNotification: with the first thing that is wrong
        """
        notification = Notification.from_payload(payload)
        whole = info = notification.info
        if self._kept and info:
            info = self._kept.keep(info)
        if self._secrets and self.may_find(info, notification.text):
            info = self.mask(info)
        if info is whole:
            return notification
        return Notification.from_payload(
            {**notification.payload, "info": info}
        )

    def may_find(self, info: Mapping[str, Any], text: str) -> bool:
        """Whether there may be a secret; a quick check, for few have any.

        :param text: JSON of which that of the info is a part
        """
        if _may_hold_secrets(text):
            return True
        is_secret = self._is_secret
        level: list[Any] = [info]
        for container in level:
            if isinstance(container, dict):
                for key, value in container.items():
                    if is_secret[key] or (key == "query" and value):
                        return True
                    if isinstance(value, dict | list):
                        level.append(value)
            else:
                level += [
                    value
                    for value in container
                    if isinstance(value, dict | list)
                ]
        return False

    def mask(self, value: Any) -> Any:
        """The value with its secrets masked; itself if it has none.

        :raises RecursionError: it is nested too deep
        """
        if isinstance(value, str):
            masked = self._mask_text(value)
            return value if masked == value else masked
        if isinstance(value, dict):
            changed = {
                key: masked
                for key, item in value.items()
                if (masked := self._mask_item(key, item)) is not item
            }
            return {**value, **changed} if changed else value
        if isinstance(value, list):
            items = [self.mask(item) for item in value]
            same = all(a is b for a, b in zip(items, value, strict=True))
            return value if same else items
        return value

    def _mask_item(self, key: str, value: Any) -> Any:
        if value is None or isinstance(value, bool) or value in ([], {}):
            return value
        if key == "query" and isinstance(value, str):
            return self._mask_query(value)
        if not self._is_secret[key]:
            return self.mask(value)
        if isinstance(value, dict) and not _is_whole(key):
            return self.mask(value)
        return MASK

    def _mask_query(self, query: str) -> str:
        """Mask the whole value of each parameter that names a secret."""
        pairs = [pair.partition("=") for pair in query.split("&")]
        masked = "&".join(
            f"{name}={MASK}"
            if equals
            and value
            and (
                self._is_secret[plain := unquote_plus(name)]
                or _is_signature(plain)
            )
            else f"{name}{equals}{value}"
            for name, equals, value in pairs
        )
        masked = self._mask_text(masked)
        return query if masked == query else masked

    def _mask_text(self, text: str) -> str:
        if "eyJ" in text:
            text = _find_jwt(_mask_jwt, text)
        if "gAAAAA" in text:
            text = _replace_fernet(MASK, text)
        if "-----BEGIN" in text:
            text = _replace_private_key(MASK, text)
        if "$" in text:
            text = _replace_hash(MASK, text)
        if "://" in text and "@" in text:
            text = _replace_password(_mask_password, text)
        if '"' in text or "'" in text:
            text = self._mask_keyed(text)
        if "=" in text:
            text = self._mask_assigned(text)
        return text

    def _mask_keyed(self, text: str) -> str:
        """Mask what follows a secret's key in quotes and a colon."""
        pieces: list[str] = []
        done = at = 0
        while match := _find_key(text, at):
            at = match.end()
            quote = match["escape"] + match[1]
            key = match[2]
            if not self._is_secret[key]:
                continue
            if text.endswith(quote, 0, match.start() + 1):
                end = _end_of_value(text, at, _is_whole(key), _match_number)
                if end > at:
                    pieces += [text[done:at], quote, MASK, quote]
                    done = at = end
        return "".join([*pieces, text[done:]]) if done else text

    def _mask_assigned(self, text: str) -> str:
        """Mask what follows a secret's name and an equals sign."""
        pieces: list[str] = []
        done = at = 0
        while match := _find_assignment(text, at):
            at = match.end()
            before = text[
                max(done, match.start() - _LONGEST_NAME) : match.start()
            ]
            if before.endswith(_BEHIND_NAMES):
                before = before.rstrip().rstrip('"`]\\')
            name = before[len(before.rstrip(_IN_NAMES)) :]
            if name and (self._is_secret[name] or _is_signature(name)):
                end = _end_of_value(text, at, _is_whole(name), _match_bare)
                if end > at:
                    quote = text[at] if text[at] in "'\"" else ""
                    # SQL doubles a quote that belongs to the text.
                    while quote and text.startswith(quote, end):
                        rest = _match_rest[quote](text, end + 1)
                        end = rest.end() if rest else len(text)
                    pieces += [text[done:at], quote, MASK, quote]
                    done = at = end
        return "".join([*pieces, text[done:]]) if done else text


def _end_of_value(
    text: str,
    at: int,
    whole: bool,
    match_bare: Callable[[str, int], re.Match[str] | None],
) -> int:
    """Where the value of a secret ends.

    :param at: where it begins
    :param whole: whether an object is a secret as a whole
    :param match_bare: matches a value without quotes
    :returns: ``at`` if there is no secret: None and the like are none, and
        an object's own keys say which of its values are
    """
    if opening := _match_opening(text, at):
        return _end_of_text(text, opening)
    if text[at : at + 1] in (("[", "(", "{") if whole else ("[", "(")):
        end = _end_of_brackets(text, at)
        return end if end > at + len("[]") else at
    bare = match_bare(text, at)
    return bare.end() if bare else at


def _is_signature(name: str) -> bool:
    """Whether it signs an address: the signature grants what it is for."""
    lower = name.lower()
    return lower == "sig" or lower.endswith(("_sig", "signature"))


def _is_whole(key: str) -> bool:
    lower = key.lower()
    return any(part in lower for part in _WHOLE)


# The end of a key within a text, whose quotes are escaped.
_find_escaped_key = re.compile(r'\\" *:').search


def _may_hold_secrets(text: str) -> bool:
    """Whether texts in this JSON may hold secrets; most do not.

    To look for one character costs next to nothing, so that comes first.
    """
    return (
        "'" in text
        or "$" in text
        or ("@" in text and "://" in text)
        or ("J" in text and "eyJ" in text)
        or "gAAAAA" in text
        or "-----BEGIN" in text
        or _find_escaped_key(text) is not None
        or ("=" in text and _find_assignment(text) is not None)
    )
