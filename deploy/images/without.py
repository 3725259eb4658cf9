"""Filter for a lock with hashes on standard input: it leaves out the packages that its arguments name.

The arguments are shell patterns.
"""

import fnmatch
import re
import sys

pins = re.split(r"\n(?=\S)", sys.stdin.read())
wanted = [pin for pin in pins if not any(fnmatch.fnmatch(pin.partition("==")[0], name) for name in sys.argv[1:])]
sys.stdout.write("\n".join(wanted))
