"""One study in one row, for the table of all studies of a multirun."""

from codes.tuning.front import best_trials
from codes.tuning.ledger import Ledger, counts
from codes.tuning.plan import Plan


def study_row(ledger: Ledger, plan: Plan) -> dict[str, str]:
    """Columns and their values: name, valid trials, best value or size of the Pareto front, how the trials ended."""
    trials = ledger.trials()
    best = best_trials(trials, plan.objective)
    values = f"front of {len(best)}"
    if plan.objective.is_single:
        values = f"{plan.objective.metrics[0]} {best[0].values[0]:.4g}" if best else "none"
    return {
        "study": plan.name,
        "valid": f"{ledger.valid()}/{ledger.target}",
        "best on test": values,
        "trials": ", ".join(f"{number} {outcome.value}" for outcome, number in counts(trials).items()),
    }
