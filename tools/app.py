#!/usr/bin/env python
import sys

from hrnet_kpt.cli.app import main

if __name__ == "__main__":
    sys.exit(main())
