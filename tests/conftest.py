"""A shell without job control (``pytest &`` in a script) starts its jobs deaf to Ctrl-C, and so all that they start.

Tests press it, so everything that they start hears it, as in the foreground.
"""

import signal

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
