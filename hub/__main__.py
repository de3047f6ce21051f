"""`python -m hub`: run one hub."""

import sys

from hub.app import main

if __name__ == "__main__":
    sys.exit(main())
