"""`python -m files`."""

import sys

from files.app import main

sys.exit(main())
