"""Whether a mesh at work grows: memory, threads, tasks and descriptors of its processes, sampled for minutes."""
