"""What hosts do to their disks."""
