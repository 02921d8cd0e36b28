"""The asset's own checks. They look at its figures only, so running them again costs nothing."""

from collections.abc import Iterator, Mapping, Sequence
from inspect import cleandoc
from statistics import median
from typing import Annotated, Literal, NamedTuple, Self

import dagster as dg
from pydantic import ConfigDict, Field, model_validator

from eb_dagster.errors import counted

Facts = Mapping[str, int | float]
Severity = Literal["WARN", "ERROR"]


def described(description: str) -> dg.Resolver:
    """What the YAML schema says about a field."""
    return dg.Resolver.default(description=description)


class Verdict(NamedTuple):
    """Whether a check passed, the figures it looked at, and a sentence about them."""

    passed: bool
    figures: dict[str, int | float]
    reason: str


class Check(dg.Model, dg.Resolvable):
    """How much it matters if a check fails."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    severity: Annotated[Severity, described("Severity of a failure: WARN or ERROR.")] = "WARN"
    blocking: Annotated[
        bool, described("Whether a failure of severity ERROR keeps assets downstream from running.")
    ] = False

    def judge(self, facts: Facts, history: Sequence[float]) -> Verdict:
        """Look at the figures of a run, and at earlier match rates, newest first."""
        raise NotImplementedError


class MatchRate(Check):
    """The match rate is within bounds."""

    severity: Annotated[Severity, described("Severity of a failure: WARN or ERROR.")] = "ERROR"
    min: Annotated[float, Field(ge=0, le=1), described("The check fails below this share.")] = 0.0
    max: Annotated[float, Field(ge=0, le=1), described("The check fails above this share.")] = 1.0

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.min > self.max:
            raise ValueError("match_rate: min is above max")
        return self

    def judge(self, facts: Facts, history: Sequence[float]) -> Verdict:  # noqa: ARG002, D102
        rate = facts.get("match_rate")
        bounds: dict[str, int | float] = {"min": self.min, "max": self.max}
        if rate is None:
            return Verdict(True, bounds, "No row has a known answer.")
        reason = f"{rate:.1%} of the rows with a known answer matched."
        return Verdict(self.min <= rate <= self.max, {"match_rate": rate, **bounds}, reason)


class MatchRateHistory(Check):
    """The match rate is near the median of the asset's earlier materializations.

    A time partition or a dynamic partition is compared with the newest materialization of each other one; a
    static partition, such as a region, with its own earlier ones.
    """

    tolerance: Annotated[
        float, Field(gt=0, le=1), described("The largest difference at which the check passes.")
    ] = 0.2
    runs: Annotated[
        int, Field(ge=1, le=100), described("How many earlier materializations are compared.")
    ] = 10
    least_runs: Annotated[
        int, Field(ge=1), described("The check passes while there are fewer than this.")
    ] = 3

    def judge(self, facts: Facts, history: Sequence[float]) -> Verdict:  # noqa: D102
        rate = facts.get("match_rate")
        earlier = history[: self.runs]
        if rate is None or len(earlier) < self.least_runs:
            return Verdict(True, {"runs": len(earlier)}, "There are too few earlier runs to compare with.")
        usual = median(earlier)
        figures: dict[str, int | float] = {"match_rate": rate, "median": usual, "runs": len(earlier)}
        reason = f"{rate:.1%} matched; the median of {counted(len(earlier), 'earlier run')} is {usual:.1%}."
        return Verdict(abs(rate - usual) <= self.tolerance, figures, reason)


class NothingInDoubt(Check):
    """Every request has a reply, and every reply could be read."""

    def judge(self, facts: Facts, history: Sequence[float]) -> Verdict:  # noqa: ARG002, D102
        figures = {name: facts.get(name, 0) for name in ("in_doubt", "credits_in_doubt", "unreadable")}
        if not any(figures.values()):
            return Verdict(True, figures, "Every request has a reply that could be read.")
        reason = "These rows are held and not sent again: compare with the vendor's bill, then `eb-dagster ledger resolve`."
        return Verdict(False, figures, reason)


class EverythingAsked(Check):
    """The run came to its end: no row was left unasked because of a cap, a doubt or a refusal.

    Rows that nobody may ask for, such as those of a shared phone or a role mailbox, do not count.
    """

    def judge(self, facts: Facts, history: Sequence[float]) -> Verdict:  # noqa: ARG002, D102
        not_asked = facts.get("not_asked", 0)
        figures: dict[str, int | float] = {"not_asked": not_asked, "rows": facts.get("rows", 0)}
        if facts.get("ended_early", 0):
            return Verdict(
                False, figures, "The run failed or was cancelled, and no table was made. Run it again."
            )
        if not not_asked:
            return Verdict(True, figures, "Every row was asked that may be asked.")
        return Verdict(
            False, figures, f"Not asked: {counted(int(not_asked), 'row')}. Another run asks the rest."
        )


class SchemaDrift(Check):
    """Every value from the vendor has the type that its column expects."""

    def judge(self, facts: Facts, history: Sequence[float]) -> Verdict:  # noqa: ARG002, D102
        figures = {name: facts.get(name, 0) for name in ("drift", "wrong_counts", "new_fields")}
        reason = (
            "Values that no column can take are kept in the column `other`. New fields alone do not fail it."
        )
        return Verdict(not (figures["drift"] or figures["wrong_counts"]), figures, reason)


class OneRowEach(Check):
    """There is one row for each row of the input."""

    severity: Annotated[Severity, described("Severity of a failure: WARN or ERROR.")] = "ERROR"

    def judge(self, facts: Facts, history: Sequence[float]) -> Verdict:  # noqa: ARG002, D102
        figures = {name: facts.get(name, 0) for name in ("input_rows", "rows")}
        reason = f"{counted(int(figures['input_rows']), 'row')} came in, {figures['rows']:,} went out."
        return Verdict(figures["rows"] == figures["input_rows"], figures, reason)


class CreditsWithinPlan(Check):
    """No more was spent than the plan allowed. The plan reads the whole input once more."""

    def judge(self, facts: Facts, history: Sequence[float]) -> Verdict:  # noqa: ARG002, D102
        spent = facts.get("credits_charged", 0) + facts.get("credits_in_doubt", 0)
        planned = facts.get("plan_credits_at_most")
        if planned is None:
            return Verdict(True, {"spent": spent}, "There was no plan to compare with.")
        reason = f"Spent or in doubt: {counted(int(spent), 'credit')}; the plan allowed {planned:,}."
        return Verdict(spent <= planned, {"spent": spent, "planned_at_most": planned}, reason)


class NamesAgree(Check):
    """Few matched contacts have another name than their row, where `person` names columns with names."""

    max: Annotated[float, Field(ge=0, le=1), described("The check fails above this share.")] = 0.05

    def judge(self, facts: Facts, history: Sequence[float]) -> Verdict:  # noqa: ARG002, D102
        agree, disagree = facts.get("agrees", 0), facts.get("disagrees", 0)
        figures: dict[str, int | float] = {"agrees": agree, "disagrees": disagree, "max": self.max}
        if not agree + disagree:
            return Verdict(True, figures, "No row has a name to compare with.")
        share = disagree / (agree + disagree)
        reason = f"{share:.1%} of the contacts whose name can be compared have another name than their row."
        return Verdict(share <= self.max, {**figures, "share": share}, reason)


class EnrichmentChecks(dg.Model, dg.Resolvable):
    """The checks of an asset. None leaves a check out.

    By default, a match rate out of bounds and a missing row are errors, the other checks warn, and
    `credits_within_plan` is off. `names_agree` is on if columns with names are given (`person`).
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    match_rate: MatchRate | None = MatchRate()
    match_rate_history: MatchRateHistory | None = MatchRateHistory()
    nothing_in_doubt: NothingInDoubt | None = NothingInDoubt()
    everything_asked: EverythingAsked | None = EverythingAsked()
    schema_drift: SchemaDrift | None = SchemaDrift()
    one_row_each: OneRowEach | None = OneRowEach()
    credits_within_plan: CreditsWithinPlan | None = None
    names_agree: NamesAgree | None = None

    def chosen(self) -> dict[str, Check]:
        """The checks that are on, by name."""
        checks: dict[str, Check | None] = {name: getattr(self, name) for name in type(self).model_fields}
        return {name: check for name, check in checks.items() if check is not None}

    def specs(self, asset: dg.AssetKey) -> list[dg.AssetCheckSpec]:
        """The checks as Dagster declares them."""
        return [
            dg.AssetCheckSpec(
                name,
                asset=asset,
                blocking=check.blocking,
                description=cleandoc(type(check).__doc__ or ""),
            )
            for name, check in self.chosen().items()
        ]

    def results(
        self, facts: Facts, history: Sequence[float], *, asset: dg.AssetKey, selected: frozenset[str]
    ) -> Iterator[dg.AssetCheckResult]:
        """What the checks of the `selected` names say about the figures of a run."""
        for name, check in self.chosen().items():
            if name in selected:
                verdict = check.judge(facts, history)
                yield dg.AssetCheckResult(
                    asset_key=asset,
                    check_name=name,
                    passed=verdict.passed,
                    metadata=verdict.figures,
                    description=verdict.reason,
                    severity=dg.AssetCheckSeverity(check.severity),
                )
