"""The same as one_switch, over IPv6 only.

  h1 (::101)     h2 (::102)
     |              |
+----+--------------+----+
|           s1           |        fd00::/64
+--+--------+--------+---+
   | p1     | p2     | p3
 (::11)   (::12)   (::13)         virtual address ::1, at home on p1
+--+--------+--------+---+
|           a1           |
+------------------------+
"""

from lab.topology import ArrayTopo


class OneSwitch6(ArrayTopo):
    """The smallest topology where two ports are left when one dies."""

    def build(self) -> None:
        """See ArrayTopo."""
        self.addSwitch("s1")
        self.add_array("a1", virtual="fd00::1/64")
        for number in (1, 2, 3):
            self.add_port(f"p{number}", f"fd00::{10 + number}/64", "s1")
        for number in (1, 2):
            self.add_host(f"h{number}", f"fd00::{100 + number}/64", "s1")
