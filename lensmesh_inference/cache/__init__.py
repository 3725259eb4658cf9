"""No work twice: results kept in this process and in a shared Redis, and one computation of what is asked for twice
at a time."""
