"""`lensmesh search`: the queries of a command line, and the page of what they found."""
