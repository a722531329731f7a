"""A setting: a field of a section with all its facts.

`setting(default, description, ...)` declares one. Commands, completion, `mcis.toml`, the reference page, warnings of
settings without effect, recipes and forecasts read these facts, and name no setting.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

_KEPT = object()


@dataclass(frozen=True)
class Flag:
    """The flag of a setting.

    Attributes:
        name: long name without dashes; None for that of the field, in kebab-case.
        short: one letter.
        off: of a boolean, the name that switches it off; None for `no-NAME`.
        metavar: placeholder of the value in the help.
        offers: for completion: the name of a completer, or words; None for the choices of the field's type.
        path: whether the value is a path: to a folder; to a folder, unless it is one of `offers`; or to a file, unless
            it names an artifact.
        several: takes several values, separated by commas, and makes one result for each.
    """

    name: str | None = None
    short: str | None = None
    off: str | None = None
    metavar: str | None = None
    offers: str | tuple[str, ...] | None = None
    path: Literal["folder", "folder or name", "file or artifact"] | None = None
    several: bool = False


@dataclass(frozen=True)
class Choice:
    """Part of a condition: a field of the section, or a fact about the run, must or must not have one of some
    values."""

    name: str
    values: tuple[object, ...]
    excluded: bool = False

    def holds(self, known: Mapping[str, object]) -> bool:
        """Whether the condition holds. An unknown fact may still get the right value, so it holds."""
        return self.name not in known or (known[self.name] in self.values) != self.excluded


@dataclass(frozen=True)
class Condition:
    """When a setting has an effect: if all choices of one alternative hold."""

    alternatives: tuple[tuple[Choice, ...], ...] = ((),)

    def __and__(self, other: "Condition") -> "Condition":
        return Condition(tuple((*one, *two) for one in self.alternatives for two in other.alternatives))

    def __or__(self, other: "Condition") -> "Condition":
        return Condition((*self.alternatives, *other.alternatives))

    def unmet(self, known: Mapping[str, object]) -> tuple[Choice, ...]:
        """The fewest choices that prevent an effect; empty if it has one."""
        failing = (tuple(choice for choice in all_of if not choice.holds(known)) for all_of in self.alternatives)
        return min(failing, key=len)


def when(**choices: Any) -> Condition:
    """Condition: each named field or fact has the value, or one of a tuple of values."""
    return Condition((tuple(Choice(name, _tuple(value)) for name, value in choices.items()),))


def unless(**choices: Any) -> Condition:
    """Condition: no named field or fact has the value, or one of a tuple of values."""
    return Condition((tuple(Choice(name, _tuple(value), excluded=True) for name, value in choices.items()),))


def _tuple(value: Any) -> tuple[object, ...]:
    return value if isinstance(value, tuple) else (value,)


@dataclass(frozen=True, kw_only=True)
class Setting:
    """The facts of a field beside its type, bounds, default and description.

    Attributes:
        flag: the flag of its section's command; None if only `--set` and files set it.
        used: when it has an effect.
        in_recipe: `used` if it counts for the key exactly when it has an effect; `always`; or `never` (its result is
            hashed as an input instead).
        omitted_at: the value that recipes omit, so that adding the setting did not change existing keys. It does not
            change with the default.
        changes_cost: whether it changes the time and bytes of an image, or of a step of a training.
    """

    flag: Flag | None = None
    used: Condition = Condition()
    in_recipe: Literal["used", "always", "never"] = "used"
    omitted_at: object = _KEPT
    changes_cost: bool = True


def setting(
    default: Any,
    description: str,
    *,
    flag: Flag | bool = False,
    used: Condition | None = None,
    in_recipe: Literal["used", "always", "never"] = "used",
    omitted_at: object = _KEPT,
    changes_cost: bool = True,
    **bounds: Any,
) -> Any:
    """Declare a field of a section.

    Args:
        default: its default value; `...` if it is required.
        description: for the reference page, help, completion and `mcis.toml`; [n] is the n-th difference of
            docs/explanation/differences-from-the-paper.md.
        flag: the flag of the section's command; True for its name in kebab-case.
        used: when it has an effect; None for always.
        in_recipe: see `Setting`.
        omitted_at: see `Setting`.
        changes_cost: see `Setting`.
        bounds: of pydantic's `Field`: ge, gt, le, lt, pattern.
    """
    facts = Setting(
        flag=(Flag() if flag else None) if isinstance(flag, bool) else flag,
        used=used or Condition(),
        in_recipe=in_recipe,
        omitted_at=omitted_at,
        changes_cost=changes_cost,
    )
    return Field(default, description=description, json_schema_extra={"setting": facts}, **bounds)  # type: ignore[dict-item]


class Config(BaseModel):
    """Base of all settings: frozen, strict about unknown names and about types; an integer is a number too.

    If the effect of a section's settings depends on facts outside the section (such as the scored subject), `FACTS`
    lists these: their values, each with the words that follow "has no effect".
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)
    FACTS: ClassVar[Mapping[str, Mapping[str, str]]] = {}

    @classmethod
    def facts_of(cls, name: str) -> Setting:
        """The facts of a field of the section."""
        extra = cls.model_fields[name].json_schema_extra
        found = extra.get("setting") if isinstance(extra, dict) else None
        return found if isinstance(found, Setting) else Setting()

    @classmethod
    def description_of(cls, name: str) -> str:
        """The description of a field."""
        return cls.model_fields[name].description or ""

    @classmethod
    def cost_free(cls) -> frozenset[str]:
        """The settings that change the result, and not the time and bytes of an image or a step."""
        return frozenset(name for name in cls.model_fields if not cls.facts_of(name).changes_cost)

    @classmethod
    def implied_by(cls, recipe: Mapping[str, Any]) -> dict[str, Any]:
        """The settings that a recipe of this section omits because they have their first default, in JSON.

        Args:
            recipe: the settings that the recipe holds.
        """
        return {
            name: facts.omitted_at
            for name in cls.model_fields
            if (facts := cls.facts_of(name)).omitted_at is not _KEPT
            and name not in recipe
            and not facts.used.unmet(recipe)
        }

    @classmethod
    def of_recipe(cls, recipe: Mapping[str, Any]) -> Self:
        """The settings that a recipe of this section was made with; those without effect have their defaults."""
        known = {name: value for name, value in recipe.items() if name in cls.model_fields}
        return cls.model_validate_json(json.dumps({**cls.implied_by(known), **known}))

    def recipe_settings(self, **facts: str) -> dict[str, Any]:
        """The settings that a result depends on, in JSON, for its recipe.

        Args:
            facts: a value for each name in `FACTS`.
        """
        assert facts.keys() == self.FACTS.keys(), f"{type(self).__name__} needs {', '.join(self.FACTS)}"
        unused = self.unused(**facts)
        kept = {name for name in type(self).model_fields if self._counts(name, name in unused)}
        settings = self.model_dump(mode="json", include=kept)
        return {name: value for name, value in settings.items() if value != self.facts_of(name).omitted_at}

    def _counts(self, name: str, is_unused: bool) -> bool:
        rule = self.facts_of(name).in_recipe
        return rule == "always" or (rule == "used" and not is_unused)

    def unused(self, **facts: str) -> frozenset[str]:
        """The settings that have no effect. A fact that is not given may have any value."""
        return frozenset(self.without_effect(type(self).model_fields, **facts))

    def without_effect(self, given: Iterable[str], **facts: str) -> dict[str, str]:
        """The settings without effect among some, each with the words that follow "has no effect".

        Args:
            given: names; those of other sections are ignored.
            facts: the known ones.
        """
        known = {**{name: getattr(self, name) for name in type(self).model_fields}, **facts}
        found = {}
        for name in sorted(set(given) & type(self).model_fields.keys()):
            if unmet := self.facts_of(name).used.unmet(known):
                about_run = [choice for choice in unmet if choice.name in facts][:1]
                words = (self._choice_in_words(one.name, known[one.name]) for one in about_run or unmet)
                found[name] = " and ".join(words).replace(" and with ", " and ")
        return found

    @classmethod
    def _choice_in_words(cls, name: str, value: object) -> str:
        """As in `without --crf`, `with --loss basic`, or the words of a fact."""
        if name in cls.FACTS:
            return cls.FACTS[name][str(value)]
        flag = cls.flag_of(name)
        if value is False and flag is not None:
            return f"without {flag}"
        return f"with {flag} {value}" if flag is not None else f"with {name} = {value}"

    @classmethod
    def effect_of(cls, name: str) -> str:
        """The other settings on which its effect depends, in words; empty for none, or if only facts matter."""
        words = []
        for all_of in cls.facts_of(name).used.alternatives:
            of_fields = sorted((one for one in all_of if one.name not in cls.FACTS), key=lambda one: one.excluded)
            if not of_fields:
                return ""
            needed = [cls._expected_in_words(one) for one in of_fields if not one.excluded]
            useless = [cls._expected_in_words(one) for one in of_fields if one.excluded]
            parts = [" and ".join(needed).replace(" and with ", " and ")] if needed else []
            parts += ["no effect " + " or ".join(useless).replace(" or with ", " or ")] if useless else []
            words.append("; ".join(parts))
        return ", or ".join(words)

    @classmethod
    def _expected_in_words(cls, choice: Choice) -> str:
        """As in `with --crf` or `with --loss full`."""
        if choice.values == (None,) or choice.values[0] is True:
            return f"{'without' if choice.values == (None,) else 'with'} {cls.flag_of(choice.name) or choice.name}"
        return " or ".join(cls._choice_in_words(choice.name, value) for value in choice.values)

    @classmethod
    def flag_of(cls, name: str) -> str | None:
        """The flag of a setting with its dashes, or None."""
        flag = cls.facts_of(name).flag
        return None if flag is None else f"--{flag.name or name.replace('_', '-')}"


def without_marks(description: str) -> str:
    """A description without its numbers of differences, which are links on a page only."""
    return re.sub(r" ?\[\d+\]", "", description)


def flat(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Settings by name; those of a nested section with its name and a dot before."""
    for name, value in config.items():
        yield from flat(value, f"{prefix}{name}.") if isinstance(value, dict) else [(f"{prefix}{name}", value)]


def changed_settings(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """The settings that differ.

    Settings that one side lacks count only if no other differs, because they gain or lose their effect when another
    setting changes.
    """
    changed = [name for name in sorted(before.keys() & after.keys()) if before[name] != after[name]]
    return changed or sorted(before.keys() ^ after.keys())
