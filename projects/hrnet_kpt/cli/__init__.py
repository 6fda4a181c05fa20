"""The commands, one module each with its parser and main; torch is imported only when a command runs."""
