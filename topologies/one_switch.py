"""One array with three ports and two hosts on one switch.

  h1 (.101)      h2 (.102)
     |              |
+----+--------------+----+
|           s1           |        10.0.0.0/24
+--+--------+--------+---+
   | p1     | p2     | p3
 (.11)    (.12)    (.13)          virtual address .1, at home on p1
+--+--------+--------+---+
|           a1           |
+------------------------+
"""

from lab.topology import ArrayTopo


class OneSwitch(ArrayTopo):
    """The smallest topology where two ports are left when one dies."""

    def build(self) -> None:
        """See ArrayTopo."""
        self.addSwitch("s1")
        self.add_array("a1", virtual="10.0.0.1/24")
        for number in (1, 2, 3):
            self.add_port(f"p{number}", f"10.0.0.{10 + number}/24", "s1")
        for number in (1, 2):
            self.add_host(f"h{number}", f"10.0.0.{100 + number}/24", "s1")
