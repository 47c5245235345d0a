"""The trials that a worker has been given, one or several as one stack, in its process: each gets its own verdict."""

import gc
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from errno import EDQUOT, ENOSPC, EROFS
from pathlib import Path

from omegaconf import DictConfig

from codes.errors import DataReplaced, Diverged, StopTraining, UserError
from codes.memory import give_back, is_out_of_memory
from codes.tuning.outcomes import Outcome, Verdict

Metrics = dict[str, float]
Report = Callable[[int, Metrics], None]  # epoch, metrics
MemberReport = Callable[[int, int, Metrics], None]  # and first which trial of the stack
Runner = Callable[[DictConfig, Report, Path], Metrics]
StackRunner = Callable[[Sequence[DictConfig], MemberReport, Sequence[Path]], Iterator[tuple[int, Metrics | Exception]]]


class Group:
    """Trials by their place in it; ``ask(member, epoch, metrics, together)`` gives the reason to stop one, or None."""

    def __init__(
        self,
        configs: Sequence[DictConfig],
        folders: Sequence[Path],
        ask: Callable[[int, int, Metrics, int], str | None],
        note: Callable[[str], None],
    ) -> None:
        self.configs, self.folders, self.ask, self.note = configs, folders, ask, note
        self.left = list(range(len(configs)))
        self.spent = dict.fromkeys(self.left, 0.0)  # seconds of this process that each trial has had
        self.since = time.monotonic()

    def run(self, runner: Runner, stack_runner: StackRunner | None) -> Iterator[tuple[int, Verdict]]:
        """Each trial and its verdict, as it ends. What is left of a stack that does not fit into memory runs alone."""
        if len(self.configs) > 1 and stack_runner is not None:
            yield from self._together(stack_runner)
        for member in list(self.left):
            yield self._alone(member, runner)

    def _together(self, runner: StackRunner) -> Iterator[tuple[int, Verdict]]:
        together = len(self.configs)
        failure: Exception | None = None
        try:
            for member, ended in runner(self.configs, lambda *seen: self._report(together, *seen), self.folders):
                yield self._end(self.left, member, ended, together)
        except Exception as error:
            failure = error
        if failure is not None and is_out_of_memory(failure):
            failure = None  # it holds what fills the memory
            self._charge(self.left)
            release_memory()
            self.note(
                f"{together} trials together ran out of memory; the {len(self.left)} that are left run one by one"
            )
        elif failure is not None:  # of the stack, and so of each trial in it
            for member in list(self.left):
                yield self._end(self.left, member, failure, together)

    def _alone(self, member: int, runner: Runner) -> tuple[int, Verdict]:
        ended: Metrics | Exception
        try:
            ended = runner(self.configs[member], lambda *seen: self._report(1, member, *seen), self.folders[member])
        except Exception as error:
            ended = error
        return self._end([member], member, ended, 1)

    def _report(self, together: int, member: int, epoch: int, metrics: Metrics) -> None:
        reason = self.ask(member, epoch, {name: float(value) for name, value in metrics.items()}, together)
        if reason is not None:
            raise StopTraining(reason)

    def _end(
        self, running: Sequence[int], member: int, ended: Metrics | Exception, together: int
    ) -> tuple[int, Verdict]:
        self._charge(running)
        self.left.remove(member)
        return member, verdict_of(ended, self.spent[member], together)

    def _charge(self, running: Sequence[int]) -> None:
        """Share the time since the last call among the trials that were running."""
        now = time.monotonic()
        for member in running:
            self.spent[member] += (now - self.since) / len(running)
        self.since = now


def verdict_of(ended: Metrics | Exception, duration: float, together: int) -> Verdict:
    """The outcome that metrics or an exception mean."""
    if not isinstance(ended, Exception):
        metrics = {name: float(value) for name, value in ended.items()}
        return Verdict(Outcome.COMPLETE, metrics=metrics, duration=duration, together=together)
    if isinstance(ended, Diverged | StopTraining):
        outcome = Outcome.DIVERGED if isinstance(ended, Diverged) else Outcome.PRUNED
        return Verdict(outcome, ended.reason, duration=duration, together=together)
    reason = str(ended) if isinstance(ended, UserError) else f"{type(ended).__name__}: {ended}"
    outcome = Outcome.OUT_OF_MEMORY if is_out_of_memory(ended) else Outcome.FAILED
    full = isinstance(ended, OSError) and ended.errno in (ENOSPC, EDQUOT, EROFS)
    return Verdict(
        outcome,
        _writable((reason.splitlines() or [reason])[0]),
        duration=duration,
        traceback=_writable("".join(traceback.format_exception(ended))),
        fatal=full or isinstance(ended, DataReplaced),
        broken=outcome is Outcome.FAILED and "CUDA error" in str(ended),
        together=together,
    )


def _writable(text: str) -> str:
    """``text`` with escapes for what no file takes: bytes of a path that are no text."""
    return text.encode(errors="backslashreplace").decode()


def release_memory() -> None:
    """Give back what nobody needs any more."""
    gc.collect()
    give_back()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
