"""`python -m dsd` is the `dsd` command."""

import sys

from dsd.command import main

sys.exit(main())
