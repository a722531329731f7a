"""What a setting is: a field of a section that carries all that the program asks about it.

`setting(default, description, ...)` declares one. Commands, completion, `mcis.toml`, the reference page, warnings of
settings without effect, recipes and forecasts read these facts; none of them knows a setting by name.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

_KEPT = object()


@dataclass(frozen=True)
class Flag:
    """How a setting is given on the command line.

    Attributes:
        name: long name without dashes; None for that of the field, in kebab-case.
        short: one letter.
        off: of a boolean, the name that switches it off; None for `no-NAME`.
        metavar: placeholder of the value in the help.
        offers: what completion offers: the name of a completer, or words; None for the choices of the field's type.
        path: whether the value is a path: to a folder; or to a file, unless it names an artifact.
        several: takes several values with commas between, and makes one result for each.
    """

    name: str | None = None
    short: str | None = None
    off: str | None = None
    metavar: str | None = None
    offers: str | tuple[str, ...] | None = None
    path: Literal["folder", "file or artifact"] | None = None
    several: bool = False


@dataclass(frozen=True)
class Choice:
    """Part of a condition: a field of the section, or a fact about the run, that has one of some values, or has not."""

    name: str
    values: tuple[object, ...]
    excluded: bool = False

    def holds(self, known: Mapping[str, object]) -> bool:
        """Whether the value is right. A name that is not known may still get the right value, and holds."""
        return self.name not in known or (known[self.name] in self.values) != self.excluded


@dataclass(frozen=True)
class Condition:
    """When a setting has an effect: where all choices of one of the alternatives hold."""

    alternatives: tuple[tuple[Choice, ...], ...] = ((),)

    def __and__(self, other: "Condition") -> "Condition":
        return Condition(tuple((*one, *two) for one in self.alternatives for two in other.alternatives))

    def __or__(self, other: "Condition") -> "Condition":
        return Condition((*self.alternatives, *other.alternatives))

    def unmet(self, known: Mapping[str, object]) -> tuple[Choice, ...]:
        """The choices that stand between the values and an effect, by the shortest way; none where there is one."""
        failing = (tuple(choice for choice in all_of if not choice.holds(known)) for all_of in self.alternatives)
        return min(failing, key=len)


def when(**choices: Any) -> Condition:
    """Where each named field or fact has the value, or one of a tuple of values."""
    return Condition((tuple(Choice(name, _tuple(value)) for name, value in choices.items()),))


def unless(**choices: Any) -> Condition:
    """Where no named field or fact has the value, or one of a tuple of values."""
    return Condition((tuple(Choice(name, _tuple(value), excluded=True) for name, value in choices.items()),))


def _tuple(value: Any) -> tuple[object, ...]:
    return value if isinstance(value, tuple) else (value,)


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What a field says of itself beside its type, bounds, default and description.

    Attributes:
        flag: how the command of its section takes it; None where only `--set` and files do.
        used: when it has an effect.
        in_recipe: `used` where it counts for the key exactly when it has an effect; `always`, or `never` (what it
            leads to is hashed as an input instead).
        omitted_at: the value that recipes omit, so that a setting that came later did not change existing keys. It
            stays as it is if the default changes.
        changes_cost: whether it changes what an image, or a step of a training, takes in time and bytes.
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
        default: its value unless given; `...` where it has to be given.
        description: for the reference page, help, completion and `mcis.toml`; [n] is the n-th difference of
            docs/explanation/differences-from-the-paper.md.
        flag: how the command of the section takes it; True for its name in kebab-case.
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

    A section whose settings have an effect or none by something that they do not hold (what is scored, say) lists such
    facts in `FACTS`: their values, each with the words that follow "has no effect".
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)
    FACTS: ClassVar[Mapping[str, Mapping[str, str]]] = {}

    @classmethod
    def facts_of(cls, name: str) -> Setting:
        """What a field of the section says of itself."""
        extra = cls.model_fields[name].json_schema_extra
        found = extra.get("setting") if isinstance(extra, dict) else None
        return found if isinstance(found, Setting) else Setting()

    @classmethod
    def description_of(cls, name: str) -> str:
        """What a field means."""
        return cls.model_fields[name].description or ""

    @classmethod
    def cost_free(cls) -> frozenset[str]:
        """The settings that change what comes out, and not what an image or a step takes in time and bytes."""
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
        """Those of some settings that have no effect, each with the words that follow "has no effect".

        Args:
            given: names; those of other sections are passed over.
            facts: as far as they are known.
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
        """On which other settings it depends whether one has an effect, in words; empty for none, or facts alone."""
        words = []
        for all_of in cls.facts_of(name).used.alternatives:
            of_fields = sorted((one for one in all_of if one.name not in cls.FACTS), key=lambda one: one.excluded)
            if not of_fields:
                return ""
            words.append(" and ".join(map(cls._expected_in_words, of_fields)).replace(" and with ", " and "))
        return ", or ".join(words)

    @classmethod
    def _expected_in_words(cls, choice: Choice) -> str:
        """As in `with --crf`, `with --loss full`, or `not with --refs 0`."""
        if choice.values == (None,) or choice.values[0] is True:
            return f"{'without' if choice.values == (None,) else 'with'} {cls.flag_of(choice.name) or choice.name}"
        words = " or ".join(cls._choice_in_words(choice.name, value) for value in choice.values)
        return f"not {words}" if choice.excluded else words

    @classmethod
    def flag_of(cls, name: str) -> str | None:
        """The flag of a setting with its dashes; None where there is none."""
        flag = cls.facts_of(name).flag
        return None if flag is None else f"--{flag.name or name.replace('_', '-')}"


def without_marks(description: str) -> str:
    """A description without its numbers of differences, which lead somewhere on a page only."""
    return re.sub(r" ?\[\d+\]", "", description)


def flat(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Settings by name; those of a nested section with its name and a dot before."""
    for name, value in config.items():
        yield from flat(value, f"{prefix}{name}.") if isinstance(value, dict) else [(f"{prefix}{name}", value)]


def changed_settings(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """The settings that differ; those that one side lacks only if no other does: they gain or lose their effect because
    another setting changed."""
    changed = [name for name in sorted(before.keys() & after.keys()) if before[name] != after[name]]
    return changed or sorted(before.keys() ^ after.keys())
