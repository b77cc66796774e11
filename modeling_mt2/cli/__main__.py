"""`python -m mt2_music.cli`, for launchers that take a module."""

import sys

from . import main

if __name__ == "__main__":
    sys.exit(main())
