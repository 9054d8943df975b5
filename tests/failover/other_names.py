"""Two ports and two hosts, with names as a user has them; the tests run the catalogue on it."""

from lab.topology.topology import ArrayTopo


class OtherNames(ArrayTopo):
    """One switch, and no name that a topology of this repository has."""

    def build(self) -> None:
        """See ArrayTopo."""
        self.addSwitch("fabric1")
        self.add_array("san", virtual="172.16.0.1/24")
        self.add_port("spa0", "172.16.0.11/24", "fabric1")
        self.add_port("spb0", "172.16.0.12/24", "fabric1")
        self.add_host("esx1", "172.16.0.101/24", "fabric1")
        self.add_host("esx2", "172.16.0.102/24", "fabric1")
