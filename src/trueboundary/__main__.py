"""``python -m trueboundary`` is the command ``trueboundary``."""

import sys

from trueboundary.cli import main

if __name__ == "__main__":
    sys.exit(main())
