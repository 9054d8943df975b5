"""The process that the lab is about: it watches ports, moves addresses, steers logins."""
