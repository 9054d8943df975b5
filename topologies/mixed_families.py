"""One array with IPv4 and IPv6, and three hosts: IPv4 only, IPv6 only, both.

  h1 (.101)      h2 (::102)      h3 (.103, ::103)
     |              |              |
+----+--------------+--------------+----+
|                   s1                  |        10.0.0.0/24 and fd00::/64
+----+--------------+--------------+----+
     | p1           | p2           | p3
 (.11, ::11)    (.12, ::12)    (.13, ::13)       virtual addresses .1 and ::1, at home on p1
+----+--------------+--------------+----+
|                   a1                  |
+---------------------------------------+
"""

from lab.topology import ArrayTopo


class MixedFamilies(ArrayTopo):
    """The smallest topology with a host of each kind."""

    def build(self) -> None:
        """See ArrayTopo."""
        self.addSwitch("s1")
        self.add_array("a1", virtual=["10.0.0.1/24", "fd00::1/64"])
        for number in (1, 2, 3):
            self.add_port(
                f"p{number}", [f"10.0.0.{10 + number}/24", f"fd00::{10 + number}/64"], "s1"
            )
        self.add_host("h1", "10.0.0.101/24", "s1")
        self.add_host("h2", "fd00::102/64", "s1")
        self.add_host("h3", ["10.0.0.103/24", "fd00::103/64"], "s1")
