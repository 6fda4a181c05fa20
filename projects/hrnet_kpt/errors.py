"""What the user can mend."""


class UserError(ValueError):
    """The user's input is wrong. The message is one line: what is wrong, where, and what to do.

    Further findings of the same check follow, a line each.
    """
