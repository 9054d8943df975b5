"""An engine, a topology, a fault, a check and a scenario for failover-lab, from outside."""
