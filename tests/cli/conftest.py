"""Fixtures of several commands."""

import pytest


@pytest.fixture
def refused(capsys):
    """Function that calls a main with invalid arguments, and returns the lines of the error on stderr."""

    def refused(main, arguments):
        capsys.readouterr()
        try:
            status = main([str(argument) for argument in arguments])
        except SystemExit as end:  # of argparse
            status = end.code
        lines = capsys.readouterr().err.splitlines()
        first, *others = [line for line in lines if not line.startswith("warning: ")]
        assert status == 2 and first.startswith("error: ")
        assert all(line.startswith("  also: ") for line in others)
        return first, *others

    return refused
