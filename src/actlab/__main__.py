"""``python -m actlab`` is the command ``actlab``."""

import sys

from actlab.cli import main

sys.exit(main())
