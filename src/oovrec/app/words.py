"""Options that take several words, as people write them."""

from __future__ import annotations

from typing import Any

from typer.core import TyperCommand


class Spread(TyperCommand):
    """A command without arguments whose options take lists: ``--seeds 0 1`` is ``--seeds 0 --seeds 1``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        lists = {name for option in self.params if getattr(option, "multiple", False) for name in option.opts}
        spread: list[str] = []
        option, taken = "", False  # the list being read, and whether it has its first word
        for word in args:
            if word.startswith("-"):
                option, taken = word if word in lists else "", False
            elif option:
                spread += [option] if taken else []
                taken = True
            spread.append(word)
        return super().parse_args(ctx, spread)
