"""Check of a Sentry DSN: the address that errors are sent to, as Sentry's settings page shows it."""

import importlib.util


def check_dsn(dsn: str) -> None:
    """Raise ValueError where errors cannot be sent to this DSN from here. Its text contains no part of the DSN."""
    if importlib.util.find_spec("sentry_sdk") is None:
        raise ValueError('sentry-sdk is not installed: pip install "lensmesh[sentry]", or unset it')
    from sentry_sdk.utils import BadDsn, Dsn

    try:
        Dsn(dsn)
    except (BadDsn, ValueError):
        message = "write the DSN as the project's settings show it: https://KEY@HOST/PROJECT_NUMBER"
        raise ValueError(message) from None
