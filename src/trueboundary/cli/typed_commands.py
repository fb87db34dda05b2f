"""How every command reads its options."""

from __future__ import annotations

from typing import Any

import typer
from typer.core import TyperCommand

from trueboundary.cli.errors import UserError


class Command(TyperCommand):
    """A command that says what was typed where it was wrong, and refuses an option given twice.

    The last of two values would win without a word, where whoever typed them may want both.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the options, as the class above does, with clearer words where that fails."""
        self._refuse_repeated(args)
        try:
            return super().parse_args(ctx, list(args))
        except typer.BadParameter as error:
            _add_what_came(error)
            raise

    def _refuse_repeated(self, args: list[str]) -> None:
        single = {
            name: option
            for option in self.params
            if not getattr(option, "multiple", False) and not getattr(option, "is_flag", False)
            for name in option.opts
            if name.startswith("-")
        }
        given: dict[int, list[str]] = {}
        words = iter(args)
        for word in words:
            if word == "--":
                break
            name, has_value, value = word.partition("=")
            option = single.get(name)
            if option is None:
                continue
            rest = [next(words, "") for _ in range(option.nargs - bool(has_value))]
            values = given.setdefault(id(option), [])
            values.append(" ".join([value] * bool(has_value) + rest))
            if len(values) > 1:
                raise UserError(
                    f"{name} is given twice, as {values[0]!r} and {values[1]!r}; give it once"
                )


def _add_what_came(error: typer.BadParameter) -> None:
    """Let the message of a value that cannot be converted end in that value."""
    details = getattr(error.__cause__, "errors", None)
    if details is None:  # our own words, or those of a version that names the value
        return
    came = repr(details()[0].get("input"))
    if came not in error.message:
        error.message = f"{error.message}; got {came}"
