#!/usr/bin/env python
import sys

from hrnet_kpt.cli.rank_images import main

if __name__ == "__main__":
    sys.exit(main())
