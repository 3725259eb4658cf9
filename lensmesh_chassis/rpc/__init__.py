"""One call of gRPC: handlers of any shape, the interceptors around them, streams, errors and their codes."""
