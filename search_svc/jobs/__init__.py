"""Jobs: work that takes longer than a call, kept in the store, done by whichever replica takes it up."""
