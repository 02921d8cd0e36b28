"""A misspelt field in the YAML of a component is told with the field that was meant."""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, cast

import dagster as dg
from pydantic import BaseModel, ModelWrapValidatorHandler, ValidationError, create_model, model_validator
from pydantic_core import ErrorDetails, InitErrorDetails

from eb_dagster.definitions.checks import Check, EnrichmentChecks
from eb_dagster.errors import did_you_mean, shown


class Spelled(dg.Resolvable):
    """A component whose misspelt fields are told so."""

    @classmethod
    def model(cls) -> type[BaseModel]:
        """What Dagster reads the YAML by."""
        return _spelled(super().model())


@cache
def _spelled(plain: type[BaseModel]) -> type[BaseModel]:
    fields = {"": [*plain.model_fields], **_fields_of_checks()}

    def read(given: Any, handler: ModelWrapValidatorHandler[Any]) -> Any:
        try:
            return handler(given)
        except ValidationError as error:
            faults = [_with_meant(fault, fields) for fault in error.errors()]
            raise ValidationError.from_exception_data(error.title, faults) from None

    # Its type does not know functions that are no methods.
    validators: dict[str, Any] = {"did_you_mean": cast("Any", model_validator(mode="wrap"))(read)}
    return create_model(plain.__name__, __base__=plain, __validators__=validators)


def _fields_of_checks() -> dict[str, list[str]]:
    """The fields inside `checks`, by the name that an error calls their model."""
    models = (EnrichmentChecks, *Check.__subclasses__())
    return {f"{model.__name__}Model": [*model.model_fields] for model in models}


def _with_meant(fault: ErrorDetails, fields: Mapping[str, Sequence[str]]) -> InitErrorDetails:
    *parents, name = fault["loc"] or ("",)
    choices = fields.get(str(parents[-1]) if parents else "")
    kind, context = fault["type"], fault.get("ctx", {})
    if kind == "extra_forbidden" and choices is not None:
        # Dagster makes the error once more, with the line of the file, and knows pydantic's own kinds only.
        kind, context = "value_error", {"error": ValueError(_no_such_field(name, choices))}
    return InitErrorDetails(type=kind, loc=fault["loc"], input=fault["input"], ctx=context)


def _no_such_field(name: object, choices: Sequence[str]) -> str:
    return f"there is no field {shown(name)}{did_you_mean([name], choices) or f'; choose from {sorted(choices)}'}"
