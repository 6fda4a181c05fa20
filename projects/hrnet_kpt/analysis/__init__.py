"""Looking into data and results: pictures, errors, and what they cost."""
