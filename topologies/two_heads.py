"""One array with two heads (kernels that share its disks), and two hosts.

  h1 (.101)      h2 (.102)
     |              |
+----+--------------+----+
|           s1           |        10.0.0.0/24
+-----+------------+-----+
      |            |
    (.11)        (.12)            virtual address .1, at home on a1a
   +--+--+      +--+--+
   | a1a |      | a1b |           both serve the same disks
   +--+--+      +--+--+
      | .2         | .3           192.168.0.0/24, a management cable to each
   +--+------------+--+
   |     a1 (.1)      |           the controller, which can cut a head's power
   +------------------+
"""

from lab.topology.heads import HeadsTopo


class TwoHeads(HeadsTopo):
    """The smallest array that survives the death of one kernel."""

    def build(self) -> None:
        """See ArrayTopo."""
        self.addSwitch("s1")
        self.add_array("a1", virtual="10.0.0.1/24")
        self.add_heads(["a1a", "a1b"], ["10.0.0.11/24", "10.0.0.12/24"], "s1", "192.168.0.0/24")
        for number in (1, 2):
            self.add_host(f"h{number}", f"10.0.0.{100 + number}/24", "s1")
