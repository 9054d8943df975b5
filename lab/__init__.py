"""A network lab and regression suite for array-based failover with iSCSI."""

__version__ = "0.1.0"
