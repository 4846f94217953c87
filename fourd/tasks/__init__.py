"""What is measured, one file each: the readout, the loss and the scores of a task."""
