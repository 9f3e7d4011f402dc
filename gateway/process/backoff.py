"""The times at which a dead child process is started again, and when trying is pointless. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace

FIRST_DELAY_S = 0.1
LONGEST_DELAY_S = 10.0
SETTLED_S = 30.0  # a life this long forgives the deaths before it
HOPELESS_STARTS = 5
EXIT_MISCONFIGURED = 78  # EX_CONFIG of sysexits(3): the child says that another attempt cannot help


@dataclass(frozen=True, slots=True)
class Deaths:
    """The deaths of one child: in all, since it last lived long (those without a known cause), and whether it ever served."""

    total: int = 0
    in_a_row: int = 0
    has_served: bool = False


def after_death(deaths: Deaths, *, lived_s: float, served: bool, is_explained: bool = False) -> Deaths:
    """
    Returns the record after one more death, of a process that lived ``lived_s`` seconds and has or has not served.
    ``is_explained``: its cause is known and was taken away, so the next start need not wait for that.
    """
    in_a_row = deaths.in_a_row if is_explained else 1 if lived_s >= SETTLED_S else deaths.in_a_row + 1
    return replace(deaths, total=deaths.total + 1, in_a_row=in_a_row, has_served=deaths.has_served or served)


def after_failed_start(deaths: Deaths) -> Deaths:
    """Returns the record after a start that the system refused: no death, but the next one waits as after one."""
    return replace(deaths, in_a_row=deaths.in_a_row + 1)


def delay_s(deaths: Deaths) -> float:
    """Returns the seconds to wait before the next start: none after a first death, then 0.1 doubling to 10."""
    if deaths.in_a_row <= 1:
        return 0.0
    return float(min(LONGEST_DELAY_S, FIRST_DELAY_S * 2 ** min(deaths.in_a_row - 2, 32)))


def is_hopeless(deaths: Deaths, *, exit_code: int | None) -> bool:
    """
    Whether the child cannot start here: it never served, and said that it is misconfigured or died five times in a row. A
    child that has served is always tried again, because the other children go on serving meanwhile.
    """
    if deaths.has_served:
        return False
    return exit_code == EXIT_MISCONFIGURED or deaths.in_a_row >= HOPELESS_STARTS
