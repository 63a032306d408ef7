"""`python -m llflow`."""

import sys

from llflow.cli import main

sys.exit(main())
