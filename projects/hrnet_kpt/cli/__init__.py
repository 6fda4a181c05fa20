"""The commands: one module each, with its parser and its main. None imports torch before it has work to do."""
