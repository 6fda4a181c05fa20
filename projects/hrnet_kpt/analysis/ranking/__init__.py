"""The order in which unlabelled images should be labelled: what a model is in doubt about, and how images differ."""
