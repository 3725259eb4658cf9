"""One module for each sub-command; `register` adds it to the application."""
