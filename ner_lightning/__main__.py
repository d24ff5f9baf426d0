"""`python -m ner_lightning`."""

import sys

from ner_lightning.cli import main

if __name__ == "__main__":
    sys.exit(main())
