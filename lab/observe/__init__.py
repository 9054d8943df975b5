"""Observers: what is on the wire, and which addresses a kernel has on which interface."""

from lab.observe.addresses import AddressWatcher
from lab.observe.capture import Capture
from lab.observe.decode import decode
from lab.observe.guest_addresses import GuestAddressWatcher

__all__ = ["AddressWatcher", "Capture", "GuestAddressWatcher", "decode"]
