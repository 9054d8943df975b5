"""The same as one_switch, with two targets of three LUNs each.

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
  a1: 1, 2, 3    b1: 1, 7, 200
"""

from lab.topology import ArrayTopo, Lun


class ManyLuns(ArrayTopo):
    """The smallest topology where a host has several sessions with several disks each."""

    def build(self) -> None:
        """See ArrayTopo."""
        self.addSwitch("s1")
        self.add_array("a1", virtual="10.0.0.1/24", luns=[Lun(1, 16), Lun(2, 24), Lun(3, 32)])
        self.add_target("b1", luns=[Lun(1, 40), Lun(7, 48), Lun(200, 56)])
        for number in (1, 2, 3):
            self.add_port(f"p{number}", f"10.0.0.{10 + number}/24", "s1")
        for number in (1, 2):
            self.add_host(f"h{number}", f"10.0.0.{100 + number}/24", "s1")
