"""What a lab is made of, as data; a topology file needs no more than these names."""

from lab.topology.heads import HeadsTopo
from lab.topology.topology import ArrayTopo, Lun

__all__ = ["ArrayTopo", "HeadsTopo", "Lun"]
