"""Observers of the wire and of the addresses that the array's kernel has up."""

from lab.observe.addresses import AddressWatcher
from lab.observe.capture import Capture
from lab.observe.decode import decode
from lab.observe.guest_addresses import GuestAddressWatcher
from lab.observe.machine import MachineWatcher

__all__ = ["AddressWatcher", "Capture", "GuestAddressWatcher", "MachineWatcher", "decode"]
