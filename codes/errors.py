"""Errors that a user can mend, told in one message."""


class UserError(Exception):
    """Bad input: the message names the key or file, the rule, the value, and what to do."""
