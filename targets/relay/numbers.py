"""StatSN translation on a connection where a relay has inserted messages."""

from __future__ import annotations

_MASK = 0xFFFFFFFF


def before(a: int, b: int) -> bool:
    """Whether `a` comes before `b` as 32-bit serial numbers (RFC 1982; RFC 7143, 4.2.2)."""
    return 0 < (b - a) & _MASK < 0x80000000


class Numbering:
    """Translates StatSN and ExpStatSN between a target and an initiator (RFC 7143, 4.2.2.2).

    The initiator counts every inserted message in StatSN; the target does not know them. Both
    translations compare numbers and do not count messages: an ExpStatSN in flight during an
    insertion does not include it, and a status that is sent again keeps its first number. A message
    that the initiator has acknowledged needs no mark.
    """

    def __init__(self) -> None:
        self._marks: list[int] = []
        self._settled = 0

    @property
    def active(self) -> bool:
        """Whether any number differs between the two sides."""
        return bool(self._marks or self._settled)

    def inject(self, next_stat_sn: int) -> int:
        """The StatSN of a message inserted before the target's status `next_stat_sn`."""
        mark = self.to_initiator(next_stat_sn)
        self._marks.append(mark)
        return mark

    def to_initiator(self, stat_sn: int) -> int:
        """The number that the initiator sees for the target's StatSN."""
        seen = (stat_sn + self._settled) & _MASK
        for mark in self._marks:
            if not before(seen, mark):
                seen = (seen + 1) & _MASK
        return seen

    def to_target(self, stat_sn: int) -> int:
        """The target's StatSN for the initiator's; that of our message becomes the next one."""
        passed = sum(before(mark, stat_sn) for mark in self._marks)
        return (stat_sn - self._settled - passed) & _MASK

    def acknowledge(self, exp_stat_sn: int) -> int:
        """Like `to_target`, for an ExpStatSN; also drops the marks that it acknowledges."""
        while self._marks and before(self._marks[0], exp_stat_sn):
            del self._marks[0]
            self._settled += 1
        return (exp_stat_sn - self._settled) & _MASK

    def run_to_target(self, begin: int, length: int) -> tuple[int, int]:
        """BegRun and RunLength of a Status SNACK without our messages (RFC 7143, 11.16).

        (0, 0) asks for all, and stays (0, 0). A run of only our messages becomes length 0.
        """
        if begin == 0 and length == 0:
            return 0, 0
        own = sum((mark - begin) & _MASK < length for mark in self._marks)
        return self.to_target(begin), length - own
