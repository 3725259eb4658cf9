"""Parts of a gRPC call: handlers of any shape, the interceptors around them, streams, errors and their codes."""
