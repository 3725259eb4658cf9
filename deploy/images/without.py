"""Standard input, a lock with hashes, without the packages that the arguments name (shell patterns)."""

import fnmatch
import re
import sys

pins = re.split(r"\n(?=\S)", sys.stdin.read())
wanted = [pin for pin in pins if not any(fnmatch.fnmatch(pin.partition("==")[0], name) for name in sys.argv[1:])]
sys.stdout.write("\n".join(wanted))
