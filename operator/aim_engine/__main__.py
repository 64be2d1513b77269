"""`python -m aim_engine` is `aim-engine`."""

import sys

from aim_engine.cli import main

sys.exit(main())
