"""Rules that look at a caption's labels together: compounds, sites, combinations, age, parents, normality.

What the rules say is data of the taxonomy file; a rule that names a label the taxonomy does not have is
inert.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from usds.taxonomy.context import Context, PhraseSet
from usds.taxonomy.document import CombinationEntry, SiteEntry
from usds.taxonomy.mentions import Mention
from usds.taxonomy.udt import Label, Taxonomy

__all__ = ["Fact", "RuleBook"]

_STATED = ("present", "negated", "uncertain")
_new = tuple.__new__  # _new(Fact, (...)) makes a fact in half the time of Fact(...)
_NEXT = 2  # tokens between a site and the finding that it qualifies ("ovarian dermoid cyst")


class Fact(NamedTuple):
    """One label (its column among all labels), its assertion, and the mention and rule it comes from."""

    column: int
    assertion: str
    mention: Mention
    rule_id: str
    method: str
    region: bool = False


@dataclass(frozen=True, slots=True)
class Combination:
    """A combination rule with the columns of its labels."""

    rule: CombinationEntry
    needed: list[int]
    added: list[int]
    dropped: frozenset[int]
    unless: PhraseSet


class RuleBook:
    """The rules of one taxonomy, compiled. A label is known by its column, its place among all labels."""

    def __init__(self, taxonomy: Taxonomy) -> None:
        document = taxonomy.document
        self.taxonomy = taxonomy
        self.columns = taxonomy.label_index
        self.keys = tuple(self.columns)
        self.labels: tuple[Label, ...] = tuple([label for d in taxonomy.dimensions for label in d.labels])
        self.sites = self._of_role("site")
        self.systems = self._of_role("system")
        self.findings = self._of_role("finding")
        self.descriptors = self._of_role("descriptor")
        self.compounds = document.compounds
        self.compound_columns = [self.columns.get((c.dimension, c.label)) for c in document.compounds]
        self.on_negation = {
            c.heads: (column, f"compound/{c.id}")
            for c, column in zip(document.compounds, self.compound_columns, strict=True)
            if c.when_negated and column is not None
        }
        self.combinations = tuple(
            [
                Combination(
                    rule,
                    [self.columns[key] for key in rule.all],
                    [self.columns[key] for key in rule.add],
                    frozenset([self.columns[key] for key in rule.drop if key in self.columns]),
                    PhraseSet(rule.unless),
                )
                for rule in document.combinations
                if all(key in self.columns for key in (*rule.all, *rule.add))
            ]
        )
        self.combined = frozenset([column for rule in self.combinations for column in rule.needed])
        self.ancestors = [
            tuple([(self.columns[parent], f"parent/{key[0]}") for parent in self._ancestors(key)])
            for key in self.keys
        ]
        self.site_rules = tuple(
            [
                (rule, PhraseSet(rule.cues), PhraseSet((*rule.block, *rule.excepted_by)))
                for rule in document.sites
            ]
        )
        self.site_triggers = frozenset[str]().union(*[cues.triggers for _, cues, _ in self.site_rules])
        normal = document.normal
        self.comparator = PhraseSet(normal.comparator if normal else ())
        self.normal = self.columns.get((normal.dimension, normal.label)) if normal else None
        self.abnormal = frozenset(
            [
                column
                for key, column in self.columns.items()
                if normal and key[0] in normal.abnormal_dimensions and key not in normal.compatible
            ]
        )

    def _of_role(self, role: str) -> frozenset[int]:
        """Columns of the labels of all dimensions of a role."""
        names = [d.name for d in self.taxonomy.dimensions if d.role == role]
        return frozenset([column for (name, _), column in self.columns.items() if name in names])

    def _ancestors(self, key: tuple[str, str]) -> list[tuple[str, str]]:
        """Parents of a label from the nearest to the root."""
        found: list[tuple[str, str]] = []
        parent = self.labels[self.columns[key]].parent
        while parent is not None and parent in self.columns and parent not in found:
            found.append(parent)
            parent = self.labels[self.columns[parent]].parent
        return found

    # ---- mentions to facts --------------------------------------------------------------------------------

    def facts(self, mentions: Iterable[Mention]) -> list[Fact]:
        """Facts that single mentions and compounds state; history and references keep their assertion."""
        facts: list[Fact] = []
        for mention in mentions:
            item = mention.item
            if item is not None:
                values = item.column, mention.assertion, mention, item.rule_id, item.method, item.region
                facts.append(_new(Fact, values))
                if mention.form is not None and mention.form.also:
                    facts.extend(
                        [
                            Fact(self.columns[key], mention.assertion, mention, item.rule_id, item.method)
                            for key in mention.form.also
                            if key in self.columns
                        ]
                    )
            elif mention.modifier >= 0:
                column = self.compound_columns[mention.modifier]
                if column is not None:
                    name = f"compound/{self.compounds[mention.modifier].id}"
                    facts.append(Fact(column, mention.assertion, mention, name, "exact"))
            elif mention.head and mention.assertion == "negated" and mention.head in self.on_negation:
                column, name = self.on_negation[mention.head]
                facts.append(Fact(column, "present", mention, name, "exact"))
        return facts

    # ---- combinations -------------------------------------------------------------------------------------

    def combine(self, facts: list[Fact], context: Context) -> list[Fact]:
        """Apply the combination rules in the order of the file."""
        present = {f[0] for f in facts if f[1] == "present"}  # by place: names are slower
        if self.combined.isdisjoint(present):
            return facts
        for rule in self.combinations:
            if not present.issuperset(rule.needed) or rule.unless.found_in(context):
                continue
            in_caption = rule.rule.scope == "caption"
            for scope in [-1] if in_caption else sorted({f.mention.sentence for f in facts}):
                inside = [f for f in facts if f.assertion == "present" and scope in (-1, f.mention.sentence)]
                held = {f.column: f for f in inside}
                if not held.keys() >= set(rule.needed):
                    continue
                gone = {id(f) for f in inside if f.column in rule.dropped}
                anchor = held[rule.needed[0]]._replace(rule_id=f"combination/{rule.rule.id}")
                facts = [f for f in facts if id(f) not in gone]
                facts += [anchor._replace(column=column) for column in rule.added]
            present = {f.column for f in facts if f.assertion == "present"}
        return facts

    # ---- sites --------------------------------------------------------------------------------------------

    def site_rule(self, context: Context) -> SiteEntry | None:
        """The first rule whose context the caption shows (an unborn child, for instance)."""
        for rule, cues, exceptions in self.site_rules:
            if cues.found_in(context) and not exceptions.found_in(context):
                return rule
        return None

    def apply_site(self, rule: SiteEntry, facts: list[Fact]) -> list[Fact]:
        """Keep only the sites that the rule allows, and state its system."""
        kept: list[Fact] = []
        anchor: Mention | None = None
        for fact in facts:
            system = fact.column in self.systems
            if (system or fact.column in self.sites) and fact.assertion in _STATED:
                anchor = anchor or fact.mention
                label = self.labels[fact.column].name
                allowed = rule.keep is None or label in rule.keep
                if system or not allowed or label in rule.drop:
                    continue
            kept.append(fact)
        if rule.system is not None:
            kept += self._system_facts(rule.system, anchor, f"site/{rule.id}")
        return kept

    def _system_facts(self, label: str, anchor: Mention | None, rule_id: str) -> list[Fact]:
        mention = anchor or Mention(0, 0, 0, "present")
        return [
            Fact(column, "present", mention, rule_id, "implied")
            for column in sorted(self.systems, key=self.keys.__getitem__)
            if self.labels[column].name == label
        ]

    def apply_pediatric(self, facts: list[Fact], infant: bool) -> list[Fact]:
        """Replace adult sites by their pediatric counterparts, and the system with them."""
        rule = self.taxonomy.document.pediatric
        if rule is None or (rule.system_dimension, rule.system) not in self.columns:
            return facts
        out: list[Fact] = []
        sited = False
        anchor: Mention | None = None
        for fact in facts:
            dimension = self.keys[fact.column][0]
            if fact.assertion not in _STATED or dimension not in (rule.dimension, rule.system_dimension):
                out.append(fact)
                continue
            anchor = anchor or fact.mention
            name = self.labels[fact.column].pediatric
            child = self.columns.get((rule.dimension, name)) if name is not None else None
            if dimension != rule.dimension:
                out += [] if child is None else [fact._replace(column=child)]
                continue
            if name in rule.infant_only and not infant:
                child = None
            sited = sited or (fact.assertion == "present" and not fact.region)
            out.append(fact if child is None else fact._replace(column=child, region=False))
        if not sited:
            out += self._system_facts(rule.system, anchor, "pediatric")
        return out

    def _settle_doubted_site(self, facts: list[Fact]) -> list[Fact]:
        """ "Suspected ovarian mass": the mass is in doubt, the ovary is what was looked at."""
        sites, finding = self.sites, self.findings
        doubted = [f for f in facts if f.assertion == "uncertain" and f.column in sites]
        if len({f.column for f in doubted}) != 1:
            return facts
        first = doubted[0].mention.first
        if any(f.assertion == "present" and (f.region or f.column in sites) for f in facts) or any(
            f.assertion == "present" and f.column in finding and f.mention.first < first for f in facts
        ):
            return facts
        starts = [f.mention.first for f in facts if f.assertion == "uncertain" and f.column in finding]
        near = {f.mention.last + gap for f in doubted for gap in range(_NEXT + 1)}
        near |= {  # "possible pericardial effusion", but "parathyroid adenoma" is the name of a tumour
            f.mention.first
            for f in facts
            if f.assertion == "uncertain" and f.column in finding and f.method == "exact"
        }.intersection([f.mention.first for f in doubted])
        beside = not near.isdisjoint(starts)
        implied = doubted[0].method == "implied"
        if implied == bool(starts) or (starts and not beside):
            return facts  # but "equivocal for appendicitis" is about the appendix
        chosen = {id(f) for f in doubted}
        return [f._replace(assertion="present") if id(f) in chosen else f for f in facts]

    def _seen_descriptors(self, facts: list[Fact]) -> list[Fact]:
        """ "Cystic lesion, possibly a cystic neoplasm": what was seen is in no doubt for being said again."""
        seen = {f.column for f in facts if f.assertion == "present" and f.column in self.descriptors}
        return [f for f in facts if f.assertion != "uncertain" or f.column not in seen]

    def regions_and_parents(self, facts: list[Fact]) -> list[Fact]:
        """Drop regions where a site is named, then add the parent of every site."""
        sites = self.sites
        if "uncertain" in [fact[1] for fact in facts]:
            facts = self._seen_descriptors(self._settle_doubted_site(facts))
        named = False
        stated: set[int] = set()
        for column, assertion, _, _, _, region in facts:
            if column in sites and assertion == "present":
                stated.add(column)
                named = named or not region
        out: list[Fact] = []
        for fact in facts:
            column, assertion, mention, _, method, region = fact
            if assertion not in _STATED:
                out.append(fact)
                continue
            if column in sites:
                # A site that is stated is not in doubt because a suspected disease carries its name.
                if (region and named) or (assertion == "uncertain" and column in stated):
                    continue
            elif region and stated:
                continue
            out.append(fact)
            for parent, rule_id in self.ancestors[column]:
                out.append(_new(Fact, (parent, assertion, mention, rule_id, method, False)))
        return out
