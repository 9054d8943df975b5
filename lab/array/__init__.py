"""The storage array of a lab, and its parts.

array.py is the interface for all other code. It has two implementations. single.py: one kernel with
all ports, and the controller in it. heads.py: several heads (head.py), each a kernel that can take
over the addresses of another, and a controller outside.

Both use the same parts. stack.py serves at one site: a target engine, the virtual port in front of
it, a watcher of the addresses. placing.py gives a kernel its first addresses, luns.py describes the
targets. supervisor.py runs the controller, orders.py keeps its standing orders, watchdog.py
restarts what died, port_relay.py sends hosts the messages that engines cannot send. policy.py and
access.py configure the array. site.py and head_site.py are where it runs: a network namespace, or a
kernel of its own.
"""
