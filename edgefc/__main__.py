"""python -m edgefc"""

import sys

from edgefc.cli import main

sys.exit(main())
