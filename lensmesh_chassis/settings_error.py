"""The error of settings, apart from what reads them: the command line raises it, and needs no pydantic for it."""


class SettingsError(SystemExit):
    """Settings that cannot be used. Uncaught it ends the process with its message alone and exit code 1."""
