"""The process of a coordinator: ``python -m tests.tuning <folder> <runner> <overrides>``.

Workers import the main module of whoever starts them, with all that it imports, but not one of this name.
"""

import sys

from codes import cli
from codes.tuning.study import run_study
from tests.tuning.studies import RUNNERS, composed

if __name__ == "__main__":
    config = composed(sys.argv[1], *sys.argv[3:])
    cli.run(lambda: run_study(config, sys.argv[2], together=RUNNERS + "together", overrides=sys.argv[3:]))
