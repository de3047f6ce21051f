"""`python -m api` runs the API."""

import sys

from api.app import main

if __name__ == "__main__":
    sys.exit(main())
