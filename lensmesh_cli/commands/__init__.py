"""The sub-commands, one module for each. `register` adds it to the application."""
