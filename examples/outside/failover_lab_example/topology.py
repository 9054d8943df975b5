"""One array with two ports, and one host, on one switch."""

from lab.topology.topology import ArrayTopo


class TwoPorts(ArrayTopo):
    """The smallest array that can lose a port."""

    def build(self) -> None:
        """See ArrayTopo."""
        self.addSwitch("s1")
        self.add_array("a1", virtual="10.0.0.1/24")
        for number in (1, 2):
            self.add_port(f"p{number}", f"10.0.0.{10 + number}/24", "s1")
        self.add_host("h1", "10.0.0.101/24", "s1")
