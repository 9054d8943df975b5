"""Compares two suites or runs: which verdicts changed, and which stalls, beyond noise."""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from statistics import median
from typing import Any

from lab.errors import BadInput
from lab.suite import records

SIGNIFICANT = 0.05
"""A change of stalls counts if chance alone makes one as large less often than this."""
NOT_RUN = "not run"
_RANKS = {"pass": 0, "flaky": 1, "missing": 2, "bad-input": 2, NOT_RUN: 2, "unknown": 2, "fail": 3}
"""How bad a verdict is."""
_EXACT = 5000
"""With up to so many ways to divide the samples, all are looked at; else a normal approximation."""


@dataclass(frozen=True)
class Change:
    """What changed in a kind of cell; `worse` if that is a regression."""

    kind: str
    what: str
    worse: bool


@dataclass(frozen=True)
class Seen:
    """What was seen of one kind of cell: its verdicts, and its stalls in ms by host."""

    verdicts: Counter[str]
    stalls: dict[str, list[float]]


def load(folder: Path) -> dict[str, Seen]:
    """The kinds of cells of a suite's folder, or of a run folder. BadInput if it is neither."""
    found: dict[str, Seen] = defaultdict(lambda: Seen(Counter(), defaultdict(list)))
    if (folder / records.SUITE).exists():
        for one in records.read(folder).outcomes():
            stalls = one.tries[-1].stall_ms if one.tries else {}
            _note(found[one.cell.kind], one.verdict or NOT_RUN, stalls)
        return dict(found)
    try:
        result: dict[str, Any] = json.loads((folder / "result.json").read_text())
        parts = [result[n] for n in ("scenario", "target", "initiator", "release")]
        stalls = result["measures"].get("stall_ms") or {}
        _note(found[".".join(parts)], result["verdict"], stalls)
    except FileNotFoundError:
        raise BadInput(f"{folder}: neither a suite's folder nor a run folder") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as bad:
        raise BadInput(f"{folder}: its result.json cannot be read: {bad!r}") from None
    return dict(found)


def _note(seen: Seen, verdict: str, stalls: dict[str, float]) -> None:
    seen.verdicts[verdict] += 1
    for host, ms in stalls.items():
        seen.stalls[host].append(float(ms))


def compare(old: dict[str, Seen], new: dict[str, Seen]) -> list[Change]:
    """What changed from `old` to `new`, regressions first. BadInput if they share no cell."""
    if not old.keys() & new.keys():
        raise BadInput("they have no cell in common, so there is nothing to compare")
    changes = [Change(kind, "is only in the first", False) for kind in old.keys() - new.keys()]
    changes += [Change(kind, "is only in the second", False) for kind in new.keys() - old.keys()]
    for kind in old.keys() & new.keys():
        before, after = old[kind], new[kind]
        was, now = _ranks(before), _ranks(after)
        more = p_value(was, now) < SIGNIFICANT
        if more or set(before.verdicts) != set(after.verdicts):
            worse = max(now) > max(was) or min(now) > min(was)
            worse = worse or (more and sum(now) / len(now) > sum(was) / len(was))
            changes.append(Change(kind, f"{_told(before)} → {_told(after)}", worse))
        for host in sorted(before.stalls.keys() & after.stalls.keys()):
            first, second = before.stalls[host], after.stalls[host]
            chance = p_value(first, second)
            if chance < SIGNIFICANT:
                old_ms, new_ms = median(first), median(second)
                what = f"stall of {host}: median {old_ms:.1f} → {new_ms:.1f} ms (p = {chance:.3f})"
                changes.append(Change(kind, what, new_ms > old_ms))
    return sorted(changes, key=lambda one: (not one.worse, one.kind, one.what))


def _ranks(seen: Seen) -> list[int]:
    return [_RANKS.get(verdict, 2) for verdict, n in seen.verdicts.items() for _ in range(n)]


def _told(seen: Seen) -> str:
    return ", ".join(f"{n} {verdict}" for verdict, n in sorted(seen.verdicts.items()))


def p_value(first: Sequence[float], second: Sequence[float]) -> float:
    """How often chance alone makes a difference as large between two samples, on either side: the
    test of Mann and Whitney. Samples of three or less never differ significantly."""
    both = sorted([*first, *second])
    # Equal values share the mean of their ranks.
    rank = {value: both.index(value) + (both.count(value) + 1) / 2 for value in set(both)}
    n, total = len(first), len(both)
    if not n or n == total or len(rank) == 1:
        return 1.0
    mean = n * (total + 1) / 2
    off = abs(sum(rank[value] for value in first) - mean)
    if math.comb(total, n) <= _EXACT:
        ranks = [rank[value] for value in both]
        sums = [abs(sum(chosen) - mean) for chosen in combinations(ranks, n)]
        return sum(one >= off - 1e-9 for one in sums) / len(sums)
    ties = sum(count**3 - count for count in Counter(both).values())
    spread = math.sqrt(n * (total - n) / 12 * (total + 1 - ties / (total * (total - 1))))
    return math.erfc(max(0.0, off - 0.5) / spread / math.sqrt(2))
