"""The way over from YACS: a YAML of another codebase as a LazyConfig file."""
