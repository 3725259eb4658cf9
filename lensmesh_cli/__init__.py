"""The `lensmesh` command. Heavy packages are imported by the commands that need them, never here."""
