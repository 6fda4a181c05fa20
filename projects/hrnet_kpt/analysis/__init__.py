"""Looking into data and results: errors, and what they cost."""
