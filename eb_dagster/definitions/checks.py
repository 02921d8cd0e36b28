"""The asset's own checks. They judge its figures alone, so they can be run again for nothing."""

from collections.abc import Iterator, Mapping, Sequence
from inspect import cleandoc
from statistics import median
from typing import Annotated, Literal, NamedTuple, Self

import dagster as dg
from pydantic import ConfigDict, Field, model_validator

Facts = Mapping[str, int | float]
Severity = Literal["WARN", "ERROR"]


def _says(description: str) -> dg.Resolver:
    return dg.Resolver.default(description=description)


class Verdict(NamedTuple):
    """Whether a check passed, the figures it looked at, and a sentence about them."""

    passed: bool
    shown: dict[str, int | float]
    why: str


class Check(dg.Model, dg.Resolvable):
    """How much it matters that a check failed."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    severity: Annotated[Severity, _says("Of a failure: WARN or ERROR.")] = "WARN"
    blocking: Annotated[bool, _says("Whether a failure that is an ERROR holds up what is downstream.")] = (
        False
    )

    def judge(self, facts: Facts, history: Sequence[float]) -> Verdict:
        """Look at the figures of a run, and at earlier match rates, newest first."""
        raise NotImplementedError


class MatchRate(Check):
    """The match rate is within bounds."""

    severity: Annotated[Severity, _says("Of a failure: WARN or ERROR.")] = "ERROR"
    min: Annotated[float, Field(ge=0, le=1), _says("It fails below this share.")] = 0.0
    max: Annotated[float, Field(ge=0, le=1), _says("It fails above this share.")] = 1.0

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.min > self.max:
            raise ValueError("match_rate: min is above max")
        return self

    def judge(self, facts: Facts, history: Sequence[float]) -> Verdict:  # noqa: ARG002, D102
        rate = facts.get("match_rate")
        bounds: dict[str, int | float] = {"min": self.min, "max": self.max}
        if rate is None:
            return Verdict(True, bounds, "No row has an answer that is known.")
        why = f"{rate:.1%} of the rows with a known answer matched."
        return Verdict(self.min <= rate <= self.max, {"match_rate": rate, **bounds}, why)


class MatchRateHistory(Check):
    """The match rate is near the median of the asset's earlier materializations.

    A partition in time, or a dynamic one, is compared with the newest materialization of each other
    one; a static partition, such as a region, with its own earlier ones.
    """

    tolerance: Annotated[float, Field(gt=0, le=1), _says("The largest difference that passes.")] = 0.2
    runs: Annotated[int, Field(ge=1, le=100), _says("How many earlier materializations count.")] = 10
    least_runs: Annotated[int, Field(ge=1), _says("It passes while there are fewer.")] = 3

    def judge(self, facts: Facts, history: Sequence[float]) -> Verdict:  # noqa: D102
        rate, earlier = facts.get("match_rate"), history[: self.runs]
        if rate is None or len(earlier) < self.least_runs:
            return Verdict(True, {"runs": len(earlier)}, "There is too little to compare with.")
        usual = median(earlier)
        shown: dict[str, int | float] = {"match_rate": rate, "median": usual, "runs": len(earlier)}
        why = f"{rate:.1%} matched; the median of {len(earlier)} earlier runs is {usual:.1%}."
        return Verdict(abs(rate - usual) <= self.tolerance, shown, why)


class NothingInDoubt(Check):
    """Every request has a reply, and every reply could be read."""

    def judge(self, facts: Facts, history: Sequence[float]) -> Verdict:  # noqa: ARG002, D102
        shown = {name: facts.get(name, 0) for name in ("in_doubt", "credits_in_doubt", "unreadable")}
        if not any(shown.values()):
            return Verdict(True, shown, "Every request has a reply that could be read.")
        why = "These rows are held and not sent again: compare with the vendor's bill, then decide."
        return Verdict(False, shown, why)


class SchemaDrift(Check):
    """Every value of the vendor's has the type that its column expects."""

    def judge(self, facts: Facts, history: Sequence[float]) -> Verdict:  # noqa: ARG002, D102
        shown = {name: facts.get(name, 0) for name in ("drift", "wrong_counts", "new_fields")}
        why = "What no column could take is kept in the column other; new fields alone do not fail."
        return Verdict(not (shown["drift"] or shown["wrong_counts"]), shown, why)


class OneRowEach(Check):
    """There is one row for each row of the input."""

    severity: Annotated[Severity, _says("Of a failure: WARN or ERROR.")] = "ERROR"

    def judge(self, facts: Facts, history: Sequence[float]) -> Verdict:  # noqa: ARG002, D102
        shown = {name: facts.get(name, 0) for name in ("input_rows", "rows")}
        why = f"{shown['input_rows']:,} rows came, {shown['rows']:,} left."
        return Verdict(shown["rows"] == shown["input_rows"], shown, why)


class CreditsWithinPlan(Check):
    """No more was spent than the plan allowed. The plan reads the whole input once more."""

    def judge(self, facts: Facts, history: Sequence[float]) -> Verdict:  # noqa: ARG002, D102
        spent = facts.get("credits_charged", 0) + facts.get("credits_in_doubt", 0)
        planned = facts.get("plan_credits_at_most")
        if planned is None:
            return Verdict(True, {"spent": spent}, "There was no plan to compare with.")
        why = f"{spent:,} credits spent or in doubt, {planned:,} planned at most."
        return Verdict(spent <= planned, {"spent": spent, "planned_at_most": planned}, why)


class NamesAgree(Check):
    """Where columns with names are given, few matched contacts have another name than their row."""

    max: Annotated[float, Field(ge=0, le=1), _says("It fails above this share.")] = 0.05

    def judge(self, facts: Facts, history: Sequence[float]) -> Verdict:  # noqa: ARG002, D102
        agree, disagree = facts.get("agrees", 0), facts.get("disagrees", 0)
        shown: dict[str, int | float] = {"agrees": agree, "disagrees": disagree, "max": self.max}
        if not agree + disagree:
            return Verdict(True, shown, "No row has a name to compare with.")
        share = disagree / (agree + disagree)
        why = f"{share:.1%} of the contacts whose name can be compared have another one than their row."
        return Verdict(share <= self.max, {**shown, "share": share}, why)


class EnrichmentChecks(dg.Model, dg.Resolvable):
    """The checks of an asset. None leaves one out.

    By default, a match rate out of bounds and a missing row are errors, the others warn, and
    `credits_within_plan` is off. `names_agree` is there where columns with names are given (`person`).
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    match_rate: MatchRate | None = MatchRate()
    match_rate_history: MatchRateHistory | None = MatchRateHistory()
    nothing_in_doubt: NothingInDoubt | None = NothingInDoubt()
    schema_drift: SchemaDrift | None = SchemaDrift()
    one_row_each: OneRowEach | None = OneRowEach()
    credits_within_plan: CreditsWithinPlan | None = None
    names_agree: NamesAgree | None = None

    def chosen(self) -> dict[str, Check]:
        """The checks there are, by name."""
        every: dict[str, Check | None] = {name: getattr(self, name) for name in type(self).model_fields}
        return {name: check for name, check in every.items() if check is not None}

    def specs(self, asset: dg.AssetKey) -> list[dg.AssetCheckSpec]:
        """The checks as Dagster declares them."""
        return [
            dg.AssetCheckSpec(
                name, asset=asset, blocking=check.blocking,
                description=cleandoc(type(check).__doc__ or ""),
            )
            for name, check in self.chosen().items()
        ]  # fmt: skip

    def results(
        self, facts: Facts, history: Sequence[float], *, asset: dg.AssetKey, among: frozenset[str]
    ) -> Iterator[dg.AssetCheckResult]:
        """What the checks `among` these names say to the figures of a run."""
        for name, check in self.chosen().items():
            if name in among:
                verdict = check.judge(facts, history)
                yield dg.AssetCheckResult(
                    asset_key=asset, check_name=name, passed=verdict.passed, metadata=verdict.shown,
                    description=verdict.why, severity=dg.AssetCheckSeverity(check.severity),
                )  # fmt: skip
