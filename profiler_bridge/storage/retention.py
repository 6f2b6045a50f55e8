# SPDX-License-Identifier: Apache-2.0

"""How long traces are kept: the options, and what users write for a time."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from oslo_config import cfg, types

from profiler_bridge import exceptions, rules
from profiler_bridge.summary import TraceSummary

# Whoever writes more than a hundred years means something else, and some
# storages cannot count so far.
_MOST_YEARS = 100

#: What the units of times stand for.
SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


def seconds(text: str) -> int:
    """Seconds, or like ``90s``, ``12h``, ``7d`` or ``4w``.

    :raises ValueError: it is neither, or more than a hundred years
    """
    match = re.fullmatch(r"([0-9]+)([smhdw]?)", text.strip())
    if not match:
        raise ValueError(f"{text[:40]!a} is not like 3600, 12h or 7d")
    digits = match[1].lstrip("0") or "0"
    # As text first: Python reads no number of 5,000 digits.
    given = int(digits[:18]) * SECONDS[match[2] or "s"]
    if len(digits) > 18 or given > _MOST_YEARS * 366 * SECONDS["d"]:
        raise ValueError(
            f"{text.strip()[:40]!a} is out of range: at most"
            f" {_MOST_YEARS} years"
        )
    return given


def shown(given: int) -> str:
    """Seconds as :func:`seconds` reads them, where 0 is for ever."""
    if not given:
        return "for ever"
    unit = max(
        (unit for unit in "smhd" if not given % SECONDS[unit]),
        key=lambda unit: SECONDS[unit],
    )
    return f"{given // SECONDS[unit]}{unit}"


class Duration(types.ConfigType):
    """What :func:`seconds` reads, as the type of an option."""

    def __init__(self) -> None:
        super().__init__(type_name="seconds, or like 12h or 7d")

    def __call__(self, value: object) -> int:
        return seconds(str(value))

    def _formatter(self, value: object) -> str:
        return str(value)


RETENTION = cfg.Opt(
    "retention",
    type=Duration(),
    default=0,
    help="How long a trace is kept after its last notification; 0 is for ever."
    " It holds for traces that no rule in a section [retention:NAME] matches."
    " In a database the bridge deletes traces, by their own timestamps, so its"
    " user needs the right to delete. In Redis they expire, counted from when"
    " they were written.",
)

#: How the names of the sections of rules begin, in lower case.
SECTION = "retention:"


class _Match(types.ConfigType):
    """What :func:`profiler_bridge.rules.parse` reads, as a type."""

    def __init__(self) -> None:
        super().__init__(type_name="a rule, as error or slower than 2s")

    def __call__(self, value: object) -> rules.Rule:
        return rules.parse(str(value))

    def _formatter(self, value: object) -> str:
        return str(value)


#: Of each section [retention:NAME], which stands for one rule.
RULE_OPTS: Sequence[cfg.Opt] = [
    cfg.MultiOpt(
        "match",
        item_type=_Match(),
        help="Which traces the rule is for: error, incomplete, slower than"
        " 2s, service nova, project nova, host compute-1, root PATTERN,"
        " operation PATTERN, about UUID, sample 1/20; joined with and, or and"
        " not. Given more than once, one of them has to match. Each rule has a"
        " section of its own, with any name in place of NAME.",
    ),
    cfg.Opt(
        "keep",
        type=Duration(),
        help="How long such a trace is kept, in place of retention; 0 is for"
        " ever. If several rules match, the longest time counts. In Redis a"
        " rule can only keep traces for longer than retention.",
    ),
]


def list_opts() -> list[tuple[str, Sequence[cfg.Opt]]]:
    """For the sample, which has one section for all that there may be."""
    return [(f"{SECTION}name", RULE_OPTS)]


class KeepRule(NamedTuple):
    """How long some traces are kept.

    :param match: they are those that one of these chooses
    :param keep: seconds; 0 is for ever
    """

    name: str
    match: Sequence[rules.Rule]
    keep: int

    def matches(
        self,
        summary: TraceSummary,
        operations: Callable[[], Collection[str]],
    ) -> bool:
        """As :meth:`profiler_bridge.rules.Rule.matches`."""
        return any(rule.matches(summary, operations) for rule in self.match)

    def decide(self, summary: TraceSummary) -> bool | None:
        """As :meth:`profiler_bridge.rules.Rule.decide`."""
        decided = [rule.decide(summary) for rule in self.match]
        return True if True in decided else None if None in decided else False

    def lasts(self, seconds: float) -> bool:
        """Whether traces of that age are kept."""
        return not self.keep or seconds <= self.keep


@dataclass(frozen=True)
class Retention:
    """How long which traces are kept.

    :param plain: seconds, for traces that no rule matches; 0 is for ever
    :param rules: of those that match a trace the longest counts, of equals
        the first
    """

    plain: int
    rules: Sequence[KeepRule] = ()

    @property
    def lengths(self) -> list[int]:
        """After how many seconds traces go, the shortest first.

        :returns: each once; none where all are kept for ever
        """
        lengths = {self.plain, *(rule.keep for rule in self.rules)}
        return sorted(lengths - {0})

    @property
    def for_ever(self) -> bool:
        """Whether there may be traces that are kept for ever."""
        return not self.plain or not all(rule.keep for rule in self.rules)

    def rule_of(
        self,
        summary: TraceSummary,
        operations: Callable[[], Collection[str]],
    ) -> KeepRule | None:
        """The rule that counts for a trace; None where none matches.

        :param operations: as for :meth:`profiler_bridge.rules.Rule.matches`;
            may be called several times
        """
        longest_first = sorted(
            self.rules,
            key=lambda rule: rule.keep or float("inf"),
            reverse=True,
        )
        for rule in longest_first:
            if rule.matches(summary, operations):
                return rule
        return None

    def goes(
        self,
        summary: TraceSummary,
        seconds: float,
        operations: Callable[[], Collection[str]],
    ) -> bool:
        """Whether a trace is to go, so long after its last notification.

        :param operations: as above; called only if neither the age nor the
            summary leaves a choice
        """

        def one_matches(some: Iterable[KeepRule]) -> bool:
            decided = [(rule.decide(summary), rule) for rule in some]
            return any(is_true for is_true, _ in decided) or any(
                rule.matches(summary, operations)
                for is_true, rule in decided
                if is_true is None
            )

        if one_matches(rule for rule in self.rules if rule.lasts(seconds)):
            return False
        if self.plain and seconds > self.plain:
            return True
        return one_matches(
            rule for rule in self.rules if not rule.lasts(seconds)
        )


def get_rules(conf: cfg.ConfigOpts) -> list[KeepRule]:
    """The rules of a configuration, in the order of their names.

    :raises ConfigurationError: a section is not right
    """
    keep_rules = []
    for section in sorted({*map(str.lower, conf.list_all_sections())}):
        if not section.startswith(SECTION):
            continue
        conf.register_opts(RULE_OPTS, section)
        match, keep = (
            value(conf, option.dest, section) for option in RULE_OPTS
        )
        if not match and keep is None:
            continue  # as the sample's own
        if not match or keep is None:
            raise exceptions.ConfigurationError(
                f"[{section}] needs both match and keep"
            )
        keep_rules.append(
            KeepRule(section[len(SECTION) :], tuple(match), keep)
        )
    return keep_rules


def check_sections(conf: cfg.ConfigOpts) -> None:
    """Look for what is no option in the files that a configuration is of.

    oslo.config does not tell of it, and traces would not be kept.

    :raises ConfigurationError: there is something
    """
    known = sorted(option.dest for option in RULE_OPTS)
    paths = [
        *(conf.config_file or ()),
        *(
            str(path)
            for folder in conf.config_dir or ()
            for path in sorted(Path(folder).glob("*.conf"))
        ),
    ]
    for path in paths:
        sections: dict[str, dict[str, Any]] = {}
        cfg.ConfigParser(path, sections).parse()
        for section, options in sections.items():
            if not section.lower().startswith(SECTION):
                continue
            for name in options:
                if name not in known:
                    raise exceptions.ConfigurationError(
                        f"[{section}] of {path} has no option {name}; there"
                        f" are {' and '.join(known)}"
                    )


def value(conf: cfg.ConfigOpts, name: str, section: str) -> Any:
    """The value of an option.

    :raises ConfigurationError: says in one line what is wrong with it
    """
    try:
        return conf[section][name]
    except (cfg.NoSuchOptError, cfg.TemplateSubstitutionError):
        words: object = (
            "write $$ for $, behind which the name of another option would"
            " stand"
        )
    except (cfg.Error, ValueError) as error:
        # Its own words begin with where the value stands.
        words = str(error).partition(" is not valid: ")[2] or error
    raise exceptions.ConfigurationError(f"{name} in [{section}]: {words}")
