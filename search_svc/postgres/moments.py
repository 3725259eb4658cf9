"""Times in metadata, read by an expression: the schema's own function reads all of them, in five times the time."""

# Nearly every time that is met. No alternatives and no look-ahead: these make the expression a hundred times slower.
_USUAL = "^[0-9]{4}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9]([.][0-9]{1,6})?(Z|[+-][01][0-9]:[0-5][0-9])$"


def moment(text: str) -> str:
    """Return the instant that the text expression names as the contract reads it, NULL if it is no RFC 3339 time."""
    return (
        f"CASE WHEN {text} ~ '{_USUAL}' AND pg_input_is_valid({text}, 'timestamptz')"
        # PostgreSQL knows an hour 24 and years beyond the contract's.
        f" AND substr({text}, 12, 2) < '24' AND left({text}, 4) NOT IN ('0001', '9999')"
        f" THEN {text}::timestamptz ELSE lensmesh.parse_time({text}) END"
    )
