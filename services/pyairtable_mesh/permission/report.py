"""How the engines of this process are, for metrics: counts over all tenants, and no tenant by its name."""

from collections.abc import Callable, Mapping
from typing import Any

from opentelemetry.metrics import CallbackOptions, Meter, Observation

from pyairtable_mesh.permission.engines import Engines
from pyairtable_mesh.permission.held import REASONS

Look = Callable[[Engines[Any]], float]
_COUNTED: tuple[tuple[str, Look, str, str], ...] = (
    ("loads", lambda each: each.tally.loads, "{engine}", "Engines that were loaded from the rows."),
    ("load.time", lambda each: each.tally.load_seconds, "s", "Time that these loads took together."),
    ("failures", lambda each: each.tally.failures, "{failure}", "Times that the changelog could not be followed."),
)
_MEASURED: tuple[tuple[str, Look, str, str], ...] = (
    ("held", lambda each: each.count, "{engine}", "Tenants, or model spaces, that are held in memory."),
    ("facts", lambda each: each.facts, "{fact}", "Relationships, bindings and names that are held."),
    ("facts.limit", lambda each: each.most_facts, "{fact}", "How many of them may be held before engines make room."),
    ("silence", lambda each: each.unseen, "s", "Time since the state seen longest ago was compared with the database."),
    ("lag.revisions", lambda each: each.behind, "{revision}", "How far the database was ahead, the most of all."),
)


class Report:
    """Reads engines, by the kind of what they hold (``platform``, ``model``), whenever somebody looks."""

    def __init__(self, engines: Mapping[str, Engines[Any]]) -> None:
        self._engines = engines

    def observe(self, meter: Meter) -> None:
        """Tell with each collection what is held, how fresh it is, and what it cost to keep it so."""
        for name, look, unit, words in _COUNTED:
            full_name = f"pyairtable.engine.{name}"
            meter.create_observable_counter(full_name, [self._looking(look)], unit=unit, description=words)
        for name, look, unit, words in _MEASURED:
            full_name = f"pyairtable.engine.{name}"
            meter.create_observable_gauge(full_name, [self._looking(look)], unit=unit, description=words)
        words = "Engines that were given up: for others, for a schema, as the database was put back, after a fault."
        meter.create_observable_counter(
            "pyairtable.engine.forgotten", [self._forgotten], unit="{engine}", description=words
        )

    def _looking(self, look: Look) -> Callable[[CallbackOptions], list[Observation]]:
        def observe(_options: CallbackOptions) -> list[Observation]:
            return [Observation(look(each), {"space": kind}) for kind, each in self._engines.items()]

        return observe

    def _forgotten(self, _options: CallbackOptions) -> list[Observation]:
        return [
            Observation(each.tally.forgotten[reason], {"space": kind, "reason": reason})
            for kind, each in self._engines.items()
            for reason in REASONS
        ]
