"""The controller of an array: it watches ports, moves addresses and redirects logins."""
