"""Rules that look at a caption's labels together: compounds, sites, combinations, age, parents, normality.

What the rules say is data of the taxonomy file; a rule that names a label the taxonomy does not have is
inert.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from usds.taxonomy.context import Context, PhraseSet
from usds.taxonomy.document import SiteEntry
from usds.taxonomy.mentions import Mention
from usds.taxonomy.udt import Label, Taxonomy

__all__ = ["Fact", "RuleBook"]

_STATED = ("present", "negated", "uncertain")
_new = tuple.__new__  # _new(Fact, (...)) makes a fact in half the time of Fact(...)
_NEXT = 2  # tokens between a site and the finding that it qualifies ("ovarian dermoid cyst")


class Fact(NamedTuple):
    """One label, its assertion, and the mention and rule it comes from."""

    dimension: str
    label: str
    assertion: str
    mention: Mention
    rule_id: str
    method: str
    region: bool = False


class RuleBook:
    """The rules of one taxonomy, compiled."""

    def __init__(self, taxonomy: Taxonomy) -> None:
        document = taxonomy.document
        self.taxonomy = taxonomy
        self.labels: dict[tuple[str, str], Label] = {
            (d.name, label.name): label for d in taxonomy.dimensions for label in d.labels
        }
        self.roles = {d.name: d.role for d in taxonomy.dimensions}
        self.site_dimensions = frozenset(d.name for d in taxonomy.dimensions if d.role == "site")
        self.system_dimensions = frozenset(d.name for d in taxonomy.dimensions if d.role == "system")
        self.finding_dimensions = frozenset(d.name for d in taxonomy.dimensions if d.role == "finding")
        self.compounds = document.compounds
        self.on_negation = {
            c.heads: c for c in document.compounds if c.when_negated and self._known(c.dimension, c.label)
        }
        self.combinations = tuple(
            (rule, frozenset(rule.all))
            for rule in document.combinations
            if all(self._known(*key) for key in (*rule.all, *rule.add))
        )
        self.combined = frozenset(key for _, needed in self.combinations for key in needed)
        self.ancestors = {
            key: tuple((*parent, f"parent/{key[0]}") for parent in self._ancestors(key))
            for key in self.labels
        }
        self.sites = tuple(
            (rule, PhraseSet(rule.cues), PhraseSet((*rule.block, *rule.excepted_by)))
            for rule in document.sites
        )
        self.site_triggers = frozenset[str]().union(*(cues.triggers for _, cues, _ in self.sites))
        self.unless = {rule.id: PhraseSet(rule.unless) for rule, _ in self.combinations}
        self.comparator = PhraseSet(document.normal.comparator if document.normal else ())

    def _ancestors(self, key: tuple[str, str]) -> tuple[tuple[str, str], ...]:
        """Parents of a label from the nearest to the root."""
        found: list[tuple[str, str]] = []
        parent = self.labels[key].parent
        while parent is not None and parent in self.labels and parent not in found:
            found.append(parent)
            parent = self.labels[parent].parent
        return tuple(found)

    def _known(self, dimension: str, label: str) -> bool:
        return (dimension, label) in self.labels

    # ---- mentions to facts --------------------------------------------------------------------------------

    def facts(self, mentions: Iterable[Mention]) -> list[Fact]:
        """Facts that single mentions and compounds state; history and references keep their assertion."""
        facts: list[Fact] = []
        for mention in mentions:
            item = mention.item
            if item is not None:
                said = item.dimension, item.label, mention.assertion
                facts.append(_new(Fact, (*said, mention, item.rule_id, item.method, item.region)))
                if mention.form is not None and mention.form.also:
                    facts.extend(
                        Fact(dimension, label, mention.assertion, mention, item.rule_id, item.method)
                        for dimension, label in mention.form.also
                        if self._known(dimension, label)
                    )
            elif mention.modifier >= 0:
                rule = self.compounds[mention.modifier]
                if self._known(rule.dimension, rule.label):
                    name = f"compound/{rule.id}"
                    facts.append(Fact(rule.dimension, rule.label, mention.assertion, mention, name, "exact"))
            elif mention.head and mention.assertion == "negated" and mention.head in self.on_negation:
                rule = self.on_negation[mention.head]
                facts.append(
                    Fact(rule.dimension, rule.label, "present", mention, f"compound/{rule.id}", "exact")
                )
        return facts

    # ---- combinations -------------------------------------------------------------------------------------

    def combine(self, facts: list[Fact], context: Context) -> list[Fact]:
        """Apply the combination rules in the order of the file."""
        present = {(f[0], f[1]) for f in facts if f[2] == "present"}  # by place: names are slower
        if self.combined.isdisjoint(present):
            return facts
        for rule, needed in self.combinations:
            if not needed <= present or self.unless[rule.id].found_in(context):
                continue
            scopes = [-1] if rule.scope == "caption" else sorted({f.mention.sentence for f in facts})
            for scope in scopes:
                inside = [f for f in facts if f.assertion == "present" and scope in (-1, f.mention.sentence)]
                held = {(f.dimension, f.label): f for f in inside}
                if not all(key in held for key in rule.all):
                    continue
                dropped = {id(f) for f in inside if (f.dimension, f.label) in rule.drop}
                anchor = held[rule.all[0]]
                facts = [f for f in facts if id(f) not in dropped]
                facts += [
                    anchor._replace(dimension=dimension, label=label, rule_id=f"combination/{rule.id}")
                    for dimension, label in rule.add
                ]
            present = {(f.dimension, f.label) for f in facts if f.assertion == "present"}
        return facts

    # ---- sites --------------------------------------------------------------------------------------------

    def site_rule(self, context: Context) -> SiteEntry | None:
        """The first rule whose context the caption shows (an unborn child, for instance)."""
        for rule, cues, exceptions in self.sites:
            if cues.found_in(context) and not exceptions.found_in(context):
                return rule
        return None

    def apply_site(self, rule: SiteEntry, facts: list[Fact]) -> list[Fact]:
        """Keep only the sites that the rule allows, and state its system."""
        kept: list[Fact] = []
        anchor: Mention | None = None
        for fact in facts:
            site = fact.dimension in self.site_dimensions or fact.dimension in self.system_dimensions
            if site and fact.assertion in _STATED:
                anchor = anchor or fact.mention
                allowed = rule.keep is None or fact.label in rule.keep
                if not allowed or fact.label in rule.drop or fact.dimension in self.system_dimensions:
                    continue
            kept.append(fact)
        if rule.system is not None:
            kept += self._system_facts(rule.system, anchor, f"site/{rule.id}")
        return kept

    def _system_facts(self, label: str, anchor: Mention | None, rule_id: str) -> list[Fact]:
        mention = anchor or Mention(0, 0, 0, "present")
        return [
            Fact(dimension, label, "present", mention, rule_id, "implied")
            for dimension in sorted(self.system_dimensions)
            if self._known(dimension, label)
        ]

    def apply_pediatric(self, facts: list[Fact], infant: bool) -> list[Fact]:
        """Replace adult sites by their pediatric counterparts, and the system with them."""
        rule = self.taxonomy.document.pediatric
        if rule is None or not self._known(rule.system_dimension, rule.system):
            return facts
        out: list[Fact] = []
        sited = False
        anchor: Mention | None = None
        for fact in facts:
            if fact.assertion not in _STATED:
                out.append(fact)
            elif fact.dimension == rule.dimension:
                child = self._counterpart(fact, infant)
                sited = sited or (fact.assertion == "present" and not fact.region)
                out.append(fact if child is None else fact._replace(label=child, region=False))
                anchor = anchor or fact.mention
            elif fact.dimension == rule.system_dimension:
                anchor = anchor or fact.mention
                child = self.labels[fact.dimension, fact.label].pediatric
                if child is not None and (rule.dimension, child) in self.labels:
                    out.append(fact._replace(dimension=rule.dimension, label=child))
            else:
                out.append(fact)
        if not sited:
            out += self._system_facts(rule.system, anchor, "pediatric")
        return out

    def _counterpart(self, fact: Fact, infant: bool) -> str | None:
        rule = self.taxonomy.document.pediatric
        child = self.labels[fact.dimension, fact.label].pediatric
        if rule is None or child is None or (fact.dimension, child) not in self.labels:
            return None
        if child in rule.infant_only and not infant:
            return None
        return child

    def _settle_doubted_site(self, facts: list[Fact]) -> list[Fact]:
        """ "Suspected ovarian mass": the mass is in doubt, the ovary is what was looked at."""
        sites, finding = self.site_dimensions, self.finding_dimensions
        doubted = [f for f in facts if f.assertion == "uncertain" and f.dimension in sites]
        if len({f.label for f in doubted}) != 1:
            return facts
        if any(f.assertion == "present" and (f.region or f.dimension in sites | finding) for f in facts):
            return facts
        starts = [f.mention.first for f in facts if f.assertion == "uncertain" and f.dimension in finding]
        beside = any(0 <= start - f.mention.last <= _NEXT for f in doubted for start in starts)
        implied = doubted[0].method == "implied"
        if implied == bool(starts) or (starts and not beside):
            return facts  # but "equivocal for appendicitis" is about the appendix
        return [f._replace(assertion="present") if f in doubted else f for f in facts]

    def regions_and_parents(self, facts: list[Fact]) -> list[Fact]:
        """Drop regions where a site is named, then add the parent of every site."""
        sites = self.site_dimensions
        if "uncertain" in [fact[2] for fact in facts]:
            facts = self._settle_doubted_site(facts)
        named = False
        stated: set[str] = set()
        for dimension, label, assertion, _, _, _, region in facts:
            if dimension in sites and assertion == "present":
                stated.add(label)
                named = named or not region
        out: list[Fact] = []
        for fact in facts:
            dimension, label, assertion, mention, _, method, region = fact
            if assertion not in _STATED:
                out.append(fact)
                continue
            if dimension in sites:
                # A site that is stated is not in doubt because a suspected disease carries its name.
                if (region and named) or (assertion == "uncertain" and label in stated):
                    continue
            elif region and stated:
                continue
            out.append(fact)
            for above, parent, rule_id in self.ancestors[dimension, label]:
                out.append(_new(Fact, (above, parent, assertion, mention, rule_id, method, False)))
        return out
