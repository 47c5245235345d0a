"""An Optuna storage that outlives restarts of its PostgreSQL server."""

import json
import uuid
from collections.abc import Callable, Sequence
from copy import deepcopy
from datetime import datetime
from typing import Any

from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import RDBStorage
from optuna.storages._rdb import models
from optuna.storages._rdb.storage import _create_scoped_session
from optuna.trial import FrozenTrial, TrialState, create_trial

from codes.storage.lean import LeanStorage
from codes.storage.patience import Patience

URL = "postgresql+psycopg2://"
REQUEST = "request"  # system attribute of a trial: who made or took it
IDEMPOTENT = (  # reads, and writes that come to the same when they are made twice
    "set_study_user_attr",
    "set_study_system_attr",
    "get_study_id_from_name",
    "get_study_name_from_id",
    "get_study_directions",
    "get_study_user_attrs",
    "get_study_system_attrs",
    "get_all_studies",
    "_set_trial_param",
    "get_trial_param",
    "get_trial_id_from_study_id_trial_number",
    "_get_best_trial_id",
    "get_trial",
    "_get_trials",
)


class PatientStorage(LeanStorage):
    """Optuna's storage, each operation of which is made again while the server is away.

    A connection that breaks during a commit leaves open whether it was made. Most operations come to the same when
    they are made twice. Making a trial and taking a queued one do not: they leave a mark in the same transaction, by
    which a further attempt finds out. Optuna's cache lies above, in ``_CachedStorage``.
    """

    def __init__(self, engine_kwargs: dict[str, Any], patiently: Patience, create: bool = True) -> None:
        self.patiently = patiently
        self.tried: set[str] = set()  # marks of trials that an attempt was made to make
        super().__init__(URL, engine_kwargs=engine_kwargs, skip_table_creation=not create)

    def create_new_study(self, directions: Sequence[Any], study_name: str | None = None) -> int:
        """As Optuna's; made twice it says that the study exists, which ``load_if_exists`` takes for an answer."""
        study_id: int = self.patiently(lambda: RDBStorage.create_new_study(self, directions, study_name))
        return study_id

    def delete_study(self, study_id: int) -> None:
        attempts = 0

        def attempt() -> None:
            nonlocal attempts
            attempts += 1
            try:
                RDBStorage.delete_study(self, study_id)
            except KeyError:
                if attempts == 1:
                    raise

        self.patiently(attempt)

    def _create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> FrozenTrial:
        template = deepcopy(template_trial) or create_trial(state=TrialState.RUNNING)
        template.datetime_start = template.datetime_start or _start(template)
        mark = template.system_attrs[REQUEST] = uuid.uuid4().hex
        try:
            trial: FrozenTrial = self.patiently(lambda: RDBStorage._create_new_trial(self, study_id, template))
            return trial
        finally:
            self.tried.discard(mark)

    def _get_prepared_new_trial(self, study_id: int, template_trial: Any, session: Any) -> models.TrialModel:
        """Called in the transaction that makes a trial: the one that an earlier attempt made, or else a new one."""
        mark = template_trial.system_attrs[REQUEST]
        if mark in self.tried and (made := _marked(study_id, mark, session)) is not None:
            return made
        self.tried.add(mark)
        return super()._get_prepared_new_trial(study_id, template_trial, session)

    def set_trial_state_values(self, trial_id: int, state: TrialState, values: Sequence[float] | None = None) -> bool:
        mark = uuid.uuid4().hex
        before: list[int] = []

        def attempt() -> bool:
            before.append(1)
            if state is TrialState.RUNNING:
                return self._take(trial_id, mark)
            try:
                return RDBStorage.set_trial_state_values(self, trial_id, state, values)
            except UpdateFinishedTrialError:
                if len(before) > 1 and LeanStorage.get_trial(self, trial_id).state is state:
                    return True
                raise

        done: bool = self.patiently(attempt)
        return done

    def _take(self, trial_id: int, mark: str) -> bool:
        """Turn a queued trial into a running one; False if it is somebody else's by now."""
        with _create_scoped_session(self.scoped_session) as session:
            trial: Any = models.TrialModel.find_or_raise_by_id(trial_id, session, for_update=True)
            self.check_trial_is_updatable(trial_id, trial.state)
            if trial.state is not TrialState.WAITING:
                owner = models.TrialSystemAttributeModel.find_by_trial_and_key(trial, REQUEST, session)
                return owner is not None and str(owner.value_json) == json.dumps(mark)
            self._set_trial_attr_without_commit(session, models.TrialSystemAttributeModel, trial_id, REQUEST, mark)
            trial.state, trial.datetime_start = TrialState.RUNNING, datetime.now()
        return True

    def _changed(self, statement: Any, values: dict[str, Any]) -> int:
        changed: int = self.patiently(lambda: LeanStorage._changed(self, statement, values))
        return changed


def _retried(name: str) -> Callable[..., Any]:
    original = getattr(LeanStorage, name)

    def method(self: PatientStorage, *args: Any, **kwargs: Any) -> Any:
        return self.patiently(lambda: original(self, *args, **kwargs))

    method.__name__, method.__doc__ = name, original.__doc__
    return method


for _name in IDEMPOTENT:
    setattr(PatientStorage, _name, _retried(_name))


def _start(template: FrozenTrial) -> datetime | None:
    return None if template.state is TrialState.WAITING else datetime.now()


def _marked(study_id: int, mark: str, session: Any) -> models.TrialModel | None:
    attribute = models.TrialSystemAttributeModel
    trials = session.query(models.TrialModel).join(attribute).filter(models.TrialModel.study_id == study_id)
    made: models.TrialModel | None = trials.filter(
        attribute.key == REQUEST, attribute.value_json == json.dumps(mark)
    ).one_or_none()
    return made
