"""Child processes that react to Ctrl-C even if the test run ignores it."""

from __future__ import annotations

import signal


def heed_interrupts() -> None:
    """Restores the default action of SIGINT; pass it to ``subprocess`` as ``preexec_fn``.

    What a shell runs in the background (``make test &``, ``nohup``) ignores SIGINT, and its children inherit that.
    """
    signal.signal(signal.SIGINT, signal.SIG_DFL)
