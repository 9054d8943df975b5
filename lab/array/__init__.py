"""The storage system of a lab, and what it is made of.

array.py says what everybody else may ask of one. There are two makes. single.py: one kernel with
all ports, and the controller beside them. heads.py: several heads (head.py), each a kernel that
takes the addresses of another, with a controller outside.

Both are composed of the same parts. stack.py is what serves at one site: a target engine, the
virtual port in front of it, a watcher of the addresses. placing.py gives a kernel its first
addresses, luns.py describes the targets. supervisor.py runs the controller, orders.py keeps what it
was ordered, watchdog.py starts again what has died, port_relay.py says to hosts what engines
cannot. policy.py and access.py are what the array is told; site.py and head_site.py are where it
is: a network namespace, or a kernel of its own.
"""
