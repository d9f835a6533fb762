"""Where a process that a test starts finds what tests share."""

import os
import sys

SUPPORT_PATH = os.pathsep.join(path for path in sys.path if "/tests/support/" in path)
"""For ``PYTHONPATH``."""
