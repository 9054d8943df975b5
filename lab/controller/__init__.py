"""The controller, which the lab is about: it watches ports, moves addresses, steers logins."""
