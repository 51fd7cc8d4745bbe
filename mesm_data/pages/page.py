"""Render jinja2 templates into one HTML file that holds everything it shows.

Autoescape is on, so no text of a corpus can become markup. The page's content security policy lets the browser load
nothing but what the file itself holds; scripts are allowed only where a template has one (block `script`).
"""

from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jinja2 import Environment

NO_REQUESTS = "default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'"
WITH_SCRIPT = f"{NO_REQUESTS}; script-src 'unsafe-inline'"


def render(package: str, template: str, /, *, script: bool = False, **context: Any) -> str:
    """The page that `template` of the folder `templates` of `package` makes of `context`.

    Args:
        package: a Python package; its templates may extend `base.html` and import `macros.html` of this one, and
            include those of mesm_train.report if it is one of mesm_train.
        template: the file's name.
        script: whether the template has a script, which the policy must then allow.
        context: what the template shows. A name that is missing raises jinja2.UndefinedError.
    """
    policy = WITH_SCRIPT if script else NO_REQUESTS
    return str(_environment(package).get_template(template).render(policy=policy, **context)) + "\n"


@cache
def _environment(package: str) -> "Environment":
    """Templates are compiled once a process."""
    from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

    shared = ["mesm_train.report"] if package.startswith("mesm_train") else []
    places = dict.fromkeys((package, *shared, "mesm_data.pages"))
    environment = Environment(
        loader=ChoiceLoader([PackageLoader(place) for place in places]),
        autoescape=True,
        undefined=StrictUndefined,
        lstrip_blocks=True,
    )
    environment.filters |= {"percent": percent, "signed": signed, "duration": duration, "size": size, "plural": plural}
    return environment


def percent(value: float | None, places: int = 1) -> str:
    """A share in percent without the sign; a dash where it is not defined."""
    return "–" if value is None else f"{100 * value:.{places}f}"


def signed(value: float | None, places: int = 2) -> str:
    """A number with its sign (a real minus); a dash where it is not defined."""
    return "–" if value is None else f"{round(value, places) + 0.0:+.{places}f}".replace("-", "−")


def duration(seconds: float | None) -> str:
    """Seconds as people say them: 12 s, 3 min 5 s, 2 h 10 min."""
    if seconds is None:
        return "–"
    if seconds < 10:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours:,} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def size(count: int) -> str:
    """Bytes in decimal units."""
    value = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"


def plural(count: int, noun: str) -> str:
    """1 speaker, 2 speakers."""
    return f"{count:,} {noun}{'s' * (count != 1)}"
