"""The one exception a user is meant to read."""


class UserError(Exception):
    """Something the user can mend. The message is one line: what is wrong, then what to do.

    The command line prints it as `error: ...` and exits with status 1, without a traceback.
    """
