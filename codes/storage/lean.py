"""Optuna's storage in a database, with plain statements where its object mapper costs more than the database."""

import json
from collections import defaultdict
from collections.abc import Container, Iterable, Iterator, Sequence
from datetime import datetime, timezone
from functools import lru_cache
from typing import Any

import sqlalchemy
from optuna.distributions import BaseDistribution, check_distribution_compatibility, distribution_to_json
from optuna.distributions import json_to_distribution as parse
from optuna.storages import RDBStorage
from optuna.storages._rdb import models
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.dialects import postgresql, sqlite

INSERT: dict[str, Any] = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}
UNFINISHED = (TrialState.RUNNING, TrialState.WAITING)
PARTS: tuple[Any, ...] = (
    models.TrialValueModel,
    models.TrialParamModel,
    models.TrialUserAttributeModel,
    models.TrialSystemAttributeModel,
    models.TrialIntermediateValueModel,
)
STUDY_ID = sqlalchemy.select(models.StudyModel.study_id).where(
    models.StudyModel.study_name == sqlalchemy.bindparam("name")
)
AT_ONCE = 500  # trials whose parts are read together

json_to_distribution = lru_cache(10_000)(parse)  # a study has few, and each trial tells them anew


class LeanStorage(RDBStorage):
    """As Optuna's, for SQLite and PostgreSQL; same tables, same answers.

    A report, a parameter or an attribute is one statement, instead of one or two reads and a write. Trials are read
    column by column, without an object for each row. So is a study's number, which pruners ask for at each report.
    """

    def get_study_id_from_name(self, study_name: str) -> int:
        """As Optuna's."""
        with self.engine.begin() as connection:
            found = connection.execute(STUDY_ID, {"name": study_name}).scalar()
        if found is None:
            raise KeyError(models.NOT_FOUND_MSG)
        return int(found)

    def set_trial_intermediate_value(self, trial_id: int, step: int, intermediate_value: float) -> None:
        """As Optuna's."""
        value, kind = models.TrialIntermediateValueModel.intermediate_value_to_stored_repr(intermediate_value)
        row = {"step": step, "intermediate_value": value, "intermediate_value_type": kind}
        self._write(models.TrialIntermediateValueModel, trial_id, row)

    def _set_trial_param(
        self,
        trial_id: int,
        param_name: str,
        param_value_internal: float,
        distribution: BaseDistribution,
        previous_distribution: BaseDistribution | None,
    ) -> None:
        if previous_distribution is None:  # of the first trial that this process sees: Optuna looks for it
            super()._set_trial_param(trial_id, param_name, param_value_internal, distribution, None)
            return
        check_distribution_compatibility(previous_distribution, distribution)
        text = distribution_to_json(distribution)
        row = {"param_name": param_name, "param_value": param_value_internal, "distribution_json": text}
        self._write(models.TrialParamModel, trial_id, row)

    def set_trial_user_attr(self, trial_id: int, key: str, value: Any) -> None:
        """As Optuna's."""
        self._write(models.TrialUserAttributeModel, trial_id, {"key": key, "value_json": json.dumps(value)})

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        """As Optuna's."""
        self._write(models.TrialSystemAttributeModel, trial_id, {"key": key, "value_json": json.dumps(value)})

    def get_trial(self, trial_id: int) -> FrozenTrial:
        """As Optuna's."""
        with self.engine.begin() as connection:
            found = _read(
                connection, [sqlalchemy.select(models.TrialModel).where(models.TrialModel.trial_id == trial_id)]
            )
        if not found:
            raise KeyError(models.NOT_FOUND_MSG)
        return found[0]

    def _get_trials(
        self,
        study_id: int,
        states: Container[TrialState] | None,
        included_trial_ids: set[int],
        trial_id_greater_than: int,
    ) -> list[FrozenTrial]:
        trial = models.TrialModel
        older = [number for number in included_trial_ids if number <= trial_id_greater_than]
        newer = sqlalchemy.select(trial).where(trial.study_id == study_id, trial.trial_id > trial_id_greater_than)
        parts = [newer, sqlalchemy.select(trial).where(trial.trial_id.in_(older))] if older else [newer]
        with self.engine.begin() as connection:
            found = _read(connection, parts)
        if not found:
            self.get_study_name_from_id(study_id)  # raises KeyError if there is no such study
        return [frozen for frozen in found if states is None or frozen.state in states]

    def _write(self, model: Any, trial_id: int, row: dict[str, Any]) -> None:
        """Insert or replace the ``row`` of a trial, which has one for each value of the first column.

        Raises ``UpdateFinishedTrialError`` if the trial has ended, ``KeyError`` if there is none.
        """
        statement = _upsert(self.engine.dialect.name, model, tuple(row))
        if not self._changed(statement, {"of": trial_id, **{f"new_{name}": value for name, value in row.items()}}):
            self.check_trial_is_updatable(trial_id, self.get_trial(trial_id).state)

    def _changed(self, statement: Any, values: dict[str, Any]) -> int:
        """How many rows ``statement`` has changed."""
        with self.engine.begin() as connection:
            return int(connection.execute(statement, values).rowcount)


@lru_cache
def _upsert(dialect: str, model: Any, names: Sequence[str]) -> Any:
    """Insert or replace a row of an unfinished trial.

    Reports do not wait for the disk of a PostgreSQL server: one that is killed may lose those of its last moments, of
    trials that still run, and nothing else.
    """
    trial, columns = models.TrialModel, [getattr(model, name) for name in names]
    values = [
        sqlalchemy.bindparam(f"new_{name}", type_=column.type) for name, column in zip(names, columns, strict=True)
    ]
    conditions = [trial.trial_id == sqlalchemy.bindparam("of"), trial.state.in_(UNFINISHED)]
    if dialect == "postgresql" and model is models.TrialIntermediateValueModel:
        conditions.append(sqlalchemy.func.set_config("synchronous_commit", "off", True) == "off")
    source = sqlalchemy.select(trial.trial_id, *values).where(*conditions)
    statement = INSERT[dialect](model).from_select(["trial_id", *names], source)
    replaced = {name: statement.excluded[name] for name in names[1:]}
    return statement.on_conflict_do_update(index_elements=[model.trial_id, columns[0]], set_=replaced)


def _read(connection: sqlalchemy.Connection, queries: Sequence[Any]) -> list[FrozenTrial]:
    """Trials that ``queries`` find, oldest first. Their rows first: one that has ended has all its parts."""
    rows = connection.execute(sqlalchemy.union_all(*queries)).all()
    rows = sorted(rows, key=lambda row: row.trial_id)
    chunks = (rows[start : start + AT_ONCE] for start in range(0, len(rows), AT_ONCE))
    return [frozen for chunk in chunks for frozen in _with_parts(connection, chunk)]


def _with_parts(connection: sqlalchemy.Connection, rows: Sequence[Any]) -> Iterator[FrozenTrial]:
    numbers = [row.trial_id for row in rows]
    parts = [_by_trial(connection.execute(_parts(model), {"trials": numbers})) for model in PARTS]
    for row in rows:
        yield _frozen(row, *(part[row.trial_id] for part in parts))


@lru_cache
def _parts(model: Any) -> Any:
    (key,) = model.__table__.primary_key
    chosen = model.trial_id.in_(sqlalchemy.bindparam("trials", expanding=True))
    return sqlalchemy.select(model.__table__).where(chosen).order_by(key)


def _by_trial(rows: Iterable[Any]) -> defaultdict[int, list[Any]]:
    found = defaultdict(list)
    for row in rows:
        found[row.trial_id].append(row)
    return found


def _frozen(
    row: Any,
    values: Sequence[Any],
    params: Sequence[Any],
    user_attrs: Sequence[Any],
    system_attrs: Sequence[Any],
    reports: Sequence[Any],
) -> FrozenTrial:
    """Optuna's trial of what the tables say."""
    read_value = models.TrialValueModel.stored_repr_to_value
    read_report = models.TrialIntermediateValueModel.stored_repr_to_intermediate_value
    distributions = {part.param_name: json_to_distribution(part.distribution_json) for part in params}
    objectives = sorted(values, key=lambda part: part.objective)
    return FrozenTrial(
        number=row.number,
        state=row.state,
        value=None,
        values=[read_value(part.value, part.value_type) for part in objectives] or None,
        datetime_start=_local(row.datetime_start),
        datetime_complete=_local(row.datetime_complete),
        params={part.param_name: distributions[part.param_name].to_external_repr(part.param_value) for part in params},
        distributions=distributions,
        user_attrs={part.key: json.loads(part.value_json) for part in user_attrs},
        system_attrs={part.key: json.loads(part.value_json) for part in system_attrs},
        intermediate_values={
            part.step: read_report(part.intermediate_value, part.intermediate_value_type) for part in reports
        },
        trial_id=row.trial_id,
    )


def _local(stored: datetime | None) -> datetime | None:
    """Tables have universal time, trials that of the place; neither says so."""
    return stored and stored.replace(tzinfo=timezone.utc).astimezone().replace(tzinfo=None)
