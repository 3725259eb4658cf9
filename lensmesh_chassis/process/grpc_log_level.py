"""Import that keeps the lines of gRPC's core out of a service's JSON logs, errors excepted.

Import it before anything that imports gRPC, which reads the variable at that moment:
https://github.com/grpc/grpc/blob/master/doc/environment_variables.md. A GRPC_VERBOSITY that is set already is kept.
"""

import os

# It tells of every connection that a peer closes; spans, metrics and the errors of calls tell what matters.
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
