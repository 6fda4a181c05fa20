"""Checks of a data set, and the repair of what they find."""
