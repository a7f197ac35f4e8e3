"""``python -m riffstream``: the command line."""

import sys

from riffstream.cli import main

if __name__ == "__main__":
    sys.exit(main())
