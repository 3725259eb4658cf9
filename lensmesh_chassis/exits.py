"""How processes end. Imports nothing: the command line reads it at every start."""

GIVEN_UP = 70
"""Exit code of a process that found that it cannot work any more: a device that hangs or is lost, an event loop that
is blocked. (EX_SOFTWARE of sysexits.h.)"""
