"""What is wrong with a data set, and repairing it."""
