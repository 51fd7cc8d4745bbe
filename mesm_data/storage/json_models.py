"""JSON files of any origin as pydantic models: a file is validated as a whole before any of its values is used.

`mesm_data.storage.json_shapes` does the same for files that need no more than the types of their values.
"""

from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mesm_data.errors import InputError

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Count = Annotated[int, Field(ge=0, le=2**50)]  # of bytes, rows or samples


class JsonModel(BaseModel):
    """An object of a JSON file. Types are strict: true and "1" are no numbers. Keys without a field are not checked."""

    model_config = ConfigDict(strict=True, frozen=True)


Model = TypeVar("Model", bound=JsonModel)


def validate_json(value: Any, model: type[Model], where: str) -> Model:
    """The model of `value`. Raises InputError that names the file `where`, the keys and the problems if it has none."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        problem = describe_validation_error(error)
        raise InputError(f"{where} is damaged, or not of mesm: {problem}. Get the file again") from None


def describe_validation_error(error: ValidationError) -> str:
    """Describe the problems of a file in one line, each with its key; at most five are listed."""
    problems = []
    for item in error.errors(include_url=False, include_input=False)[:5]:
        place = ".".join(repr(part).strip("'")[:80] for part in item["loc"])  # escapes line breaks
        message = "Input should be an object" if item["type"] == "model_type" else item["msg"]
        message = message.removeprefix("Value error, ")
        problems.append(f"{place}: {message}" if place else message)
    more = error.error_count() - len(problems)
    return "; ".join(problems)[:1500] + (f"; and {more} more" if more > 0 else "")
