"""`python -m mcore_compat.cli`."""

import sys

from mcore_compat.cli import main

sys.exit(main())
