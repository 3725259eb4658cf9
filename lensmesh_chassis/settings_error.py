"""The error of settings, apart from the code that reads them: the command line raises it too, and needs no pydantic."""


class SettingsError(SystemExit):
    """Settings that cannot be used. Uncaught it ends the process with its message alone and exit code 1."""
