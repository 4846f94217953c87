"""What can be trained, one file each, all through one loop."""
