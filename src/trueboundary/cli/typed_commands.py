"""How every command reads its options, and says what is wrong with them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

import typer
from typer.core import TyperCommand, TyperGroup

from trueboundary.cli.errors import UserError, nearest, stop

#: What typer raises for everything that was typed wrong; it exports but one of its kinds.
_UsageError: type[Exception] = typer.BadParameter.__mro__[1]


class Group(TyperGroup):
    """Commands under one name, whose mistakes are told in the same sentences as all others.

    They are listed in the order in which people need them, those that `order` does not name last.
    """

    order: ClassVar[Sequence[str]] = ()

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names of all commands."""
        names = super().list_commands(ctx)
        last = len(self.order)
        place = {name: i for i, name in enumerate(self.order)}
        return sorted(names, key=lambda name: place.get(name, last))

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the options before the command's name."""
        if not args and self.no_args_is_help:
            return super().parse_args(ctx, args)  # shows the help
        with _sentences(ctx):
            return super().parse_args(ctx, args)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Return the command that is named, or say which may have been meant."""
        if self.get_command(ctx, args[0]) is None and not args[0].startswith("-"):
            known = self.list_commands(ctx)
            raise UserError(
                f"there is no command {args[0]!r} ('{ctx.command_path} --help' lists them)"
                f"{nearest(args[0], known)}"
            )
        with _sentences(ctx):
            return super().resolve_command(ctx, args)


class Command(TyperCommand):
    """A command that says what was typed where it was wrong, and refuses an option given twice.

    The last of two values would win without a word, where whoever typed them may want both.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the options, as the class above does, with clearer words where that fails."""
        self._refuse_repeated(args)
        with _sentences(ctx):
            return super().parse_args(ctx, list(args))

    def invoke(self, ctx: Any) -> Any:
        """Run the command; Ctrl-C ends it in a sentence."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            stop("interrupted", 130)

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


@contextmanager
def _sentences(ctx: Any) -> Iterator[None]:
    """Tell in one sentence what typer would say in a box below a line of usage."""
    try:
        yield
    except _UsageError as error:
        if isinstance(error, typer.BadParameter):
            _raise_for_choice(error)
            _raise_for_number(error)
        text = " ".join(str(error.format_message()).split()).rstrip(".")  # type: ignore[attr-defined]
        text = f"{text[:1].lower()}{text[1:]}"
        hint = "" if "?" in text else f" ('{ctx.command_path} --help' shows what it takes)"
        raise UserError(f"{text}{hint}") from error


def _raise_for_choice(error: typer.BadParameter) -> None:
    """Say of a word that is none of the choices which there are."""
    found = re.search(r"'(.*?)' is not one of (.*)", error.message)
    if found is None:
        return
    came, known = found[1], re.findall(r"'([^']*)'", found[2].partition("; got")[0])
    name = str(getattr(error.param, "name", "choice")).replace("_", " ")
    choices = f"{', '.join(known[:-1])} or {known[-1]}"
    if name.endswith("s"):
        text = f"--{name} must be {choices}, got {came!r}"
    else:
        text = f"there is no {name} {came!r} ({choices})"
    raise UserError(f"{text}{nearest(came, known)}") from error


def _raise_for_number(error: typer.BadParameter) -> None:
    """Say of a number that is none, or too small or too large, what was expected."""
    names = getattr(error.param, "opts", ())
    text = error.message
    details = getattr(error.__cause__, "errors", None)
    if details is not None:
        first = details()[0]
        text = f"must be {_expected(first)}, got {str(first.get('input'))!r}"
    name = max(names, key=len, default="")
    if name.startswith("--") and text:
        between = "" if text.startswith("must be ") else ":"
        raise UserError(f"{name}{between} {text}") from error


def _expected(detail: Any) -> str:
    kind, limits = str(detail.get("type")), detail.get("ctx") or {}
    if "greater" in kind or "less" in kind:
        words = {"ge": "at least", "le": "at most", "gt": "above", "lt": "below"}
        ((name, limit),) = limits.items()
        return f"{words[name]} {limit}"
    return "a whole number" if kind.startswith("int") else "a number"
