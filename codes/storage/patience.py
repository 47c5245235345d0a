"""Waiting for a database server that restarts or drops its connections."""

import logging
import math
import random
import time
from collections.abc import Callable, Iterator
from itertools import count
from typing import TypeVar

import sqlalchemy
from optuna.exceptions import StorageInternalError

FIRST_PAUSE, LONGEST_PAUSE = 0.1, 10.0  # seconds
# SQLSTATE: connection exceptions, deadlock and serialisation, shutdown or start-up, no connection left, a standby
PASSING = ("08", "40", "57P", "53300", "25006")
FAILURES = (StorageInternalError, sqlalchemy.exc.SQLAlchemyError)

Result = TypeVar("Result")
log = logging.getLogger(__name__)


class Patience:
    """Waits for a server that is away, for at most ``seconds``; who then still asks it waits no more until it is back.

    They count from the first failure, which takes two minutes where a network is cut without a word. ``revive`` is
    called before each further attempt.
    """

    def __init__(self, seconds: float, revive: Callable[[], None]) -> None:
        self.seconds, self.revive = seconds, revive
        self.is_exhausted = False

    def __call__(self, attempt: Callable[[], Result]) -> Result:
        """Result of ``attempt``, made again while the server is away.

        It may have succeeded on the server before its connection broke: made again, it must find that out.
        """
        end = math.inf
        for number in count():
            try:
                result = attempt()
            except FAILURES as error:
                if not is_passing(error):
                    raise
                end = min(end, time.monotonic() + self.seconds)
                if self.is_exhausted or time.monotonic() >= end:
                    self.is_exhausted = True
                    raise
                if number == 0:
                    seconds, said = self.seconds, cause(error)
                    log.warning("the database cannot do that now; trying again for %.0f s (%s)", seconds, said)
            else:
                self.is_exhausted = False
                return result
            time.sleep(random.uniform(0.5, 1) * min(LONGEST_PAUSE, FIRST_PAUSE * 2**number))
            self.revive()
        raise AssertionError("count() does not end")


def is_passing(error: BaseException) -> bool:
    """Whether the server was only away or busy; not if it refused what it was asked, or its disk is full."""
    return any(isinstance(link, sqlalchemy.exc.DBAPIError) and _is_lost(link) for link in _chain(error))


def cause(error: BaseException) -> str:
    """What the database or its driver said, in one line."""
    said = [link.orig for link in _chain(error) if isinstance(link, sqlalchemy.exc.DBAPIError)]
    return " ".join(str(said[-1]).split())


def _is_lost(error: sqlalchemy.exc.DBAPIError) -> bool:
    code = getattr(error.orig, "pgcode", None)
    if code is None:  # not said by the server: there was none to say it
        return error.connection_invalidated or isinstance(error, sqlalchemy.exc.OperationalError)
    return code.startswith(PASSING)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
