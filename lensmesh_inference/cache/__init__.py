"""A cache of results, in this process and in a shared Redis. Work that is requested twice at a time is done once."""
