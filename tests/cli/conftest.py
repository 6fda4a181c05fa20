"""What the tests of several commands share."""

import pytest


@pytest.fixture
def refused(capsys):
    """Function of a command's main and its arguments, which are wrong: the lines of the error, after the warnings."""

    def refused(main, arguments):
        capsys.readouterr()
        try:
            status = main([str(argument) for argument in arguments])
        except SystemExit as end:  # argparse's way to say it
            status = end.code
        lines = capsys.readouterr().err.splitlines()
        first, *others = [line for line in lines if not line.startswith("warning: ")]
        assert status == 2 and first.startswith("error: ")
        assert all(line.startswith("  also: ") for line in others)
        return first, *others

    return refused
