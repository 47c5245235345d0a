"""What the tests have in common, set before any of them imports PyTorch.

A shell without job control (``pytest &`` in a script) starts its jobs deaf to Ctrl-C, and so all that they start. Tests
press it, so everything that they start hears it, as in the foreground.

Each process has one CPU thread unless ``OMP_NUM_THREADS`` says otherwise: with two processes that both take all cores,
threads wait for each other, and trainings take three times as long.
"""

import os
import signal

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
os.environ.setdefault("OMP_NUM_THREADS", "1")
