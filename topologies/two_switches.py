"""One array with three ports and two hosts on two switches with a link between them.

  h1 (.101)                          h2 (.102)
     |                                  |
+----+----------+                  +----+----------+
|      s1       +------ s1-s2 -----+      s2       |        10.0.0.0/24
+--+--------+---+                  +--------+------+
   | p1     | p2                            | p3
 (.11)    (.12)                           (.13)             virtual address .1, at home on p1
+--+--------+-------------------------------+------+
|                        a1                        |
+--------------------------------------------------+
"""

from lab.topology.topology import ArrayTopo


class TwoSwitches(ArrayTopo):
    """The smallest topology where a part of the network can be cut off."""

    def build(self) -> None:
        """See ArrayTopo."""
        self.addSwitch("s1")
        self.addSwitch("s2")
        self.addLink("s1", "s2")
        self.add_array("a1", virtual="10.0.0.1/24")
        for name, number, switch in (("p1", 11, "s1"), ("p2", 12, "s1"), ("p3", 13, "s2")):
            self.add_port(name, f"10.0.0.{number}/24", switch)
        for name, number, switch in (("h1", 101, "s1"), ("h2", 102, "s2")):
            self.add_host(name, f"10.0.0.{number}/24", switch)
