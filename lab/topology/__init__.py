"""Topologies as data. A topology file needs only these names."""

from lab.topology.heads import HeadsTopo
from lab.topology.topology import ArrayTopo, Lun

__all__ = ["ArrayTopo", "HeadsTopo", "Lun"]
