"""What talks to people: the command `lab`."""
