"""Captions with identifiers at known places, for `benchmarks.prose`: many origins, three letter cases."""

from __future__ import annotations

import random
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Final, Literal

from faker import Faker

from usds.curation.deid.words import fold
from usds.curation.readers.base import Identifier

__all__ = ["CASES", "Case", "Part", "Planted", "generate"]

LetterCase = Literal["lower", "title", "upper"]
CASES: Final[tuple[LetterCase, ...]] = ("lower", "title", "upper")
TUNING_ORIGINS: Final = ("en_US", "de_DE", "es_ES", "pl_PL", "en_IN", "pt_PT", "da_DK", "zu_ZA")
VALIDATION_ORIGINS: Final = (
    "en_GB", "en_AU", "en_NZ", "en_CA", "en_IE", "fr_FR", "fr_CH", "it_IT", "pt_BR", "nl_NL", "nl_BE",
    "sv_SE", "no_NO", "fi_FI", "is_IS", "cs_CZ", "sk_SK", "hu_HU", "hr_HR", "sl_SI", "ro_RO", "lt_LT",
    "lv_LV", "et_EE",
    "tr_TR", "az_AZ", "id_ID", "fil_PH", "es_MX", "es_CO", "es_AR", "de_AT", "de_CH", "ga_IE", "sq_AL",
    "mt_MT",
    "vi_VN", "tw_GH", "yo_NG", "sw", "uz_UZ", "ja_JP", "zh_CN",
)  # fmt: skip


TEST_ORIGINS: Final = (
    "en_KE", "en_NG", "en_PK", "en_TH", "es_CA", "es_CL", "fr_BE", "fr_CA", "fr_DZ", "ha_NG", "ig_NG",
    "zh_TW", "de_LI", "de_LU",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Planted:
    """One identifier as it stands in the text, and as a header would hold it (None: no header does)."""

    klass: str
    written: str
    header: Identifier | None


@dataclass(frozen=True, slots=True)
class Case:
    """A caption: its text, the text around the identifiers, and the identifiers."""

    text: str
    rest: str
    planted: tuple[Planted, ...]
    letter_case: LetterCase
    origin: str


# {p} patient, {s} staff or another person, {i} id, {d} date, {t} phone, {a} address, {h} institution,
# {m} mail, {g} age over 89.
_TUNING: Final = (
    "Patient {p}, MRN {i}, was examined on {d}.",
    "Seen by Dr. {s} on {d}.",
    "Name: {p}. Date of birth: {d}.",
    "Reported by {s}, {h}.",
    "Mrs {p} was referred by Dr {s} from {h}.",
    "Accession {i}. Scan dated {d}.",
    "Signed: {s} ({d})",
    "Call {t} for questions.",
    "Please contact Prof. {s} at {m}.",
    "Follow-up of {p} after {d}.",
    "The husband, {s}, was present.",
    "Images of {p} (no. {i}).",
    "{p}, {g}-year-old patient.",
    "Address: {a}.",
    "Patient ID: {i}.",
)
_VALIDATION: Final = (
    "The scan of {p} ({i}) was performed on {d}.", "Reviewed by {s}, {d}.", "Patient name: {p}; ID {i}.",
    "Images acquired {d} by sonographer {s} at {h}.", "Mr. {p} lives at {a}.",
    "Discussed with Dr {s} by phone, {t}.",
    "Comparison with the study of {d} (accession number {i}).", "Referring physician: {s}",
    "DOB {d}, MRN: {i}.",
    "Ms {p} was seen in {h} on {d}.", "Electronically signed by {s} on {d}", "Interpreted by Professor {s}.",
    "Case {i} of {d}: follow-up of {p}.", "Miss {p}, aged {g}, was referred by {s}.", "Mail: {m}, tel. {t}",
    "Radiologist: {s}. Hospital no. {i}.", "The mother, {p}, was informed by Dr. {s}.", "Study date: {d}.",
)  # fmt: skip
_TEST: Final = (
    "Requested by Dr. {s}, ward 4, on {d}.", "Mr {p}, born {d}, presents with pain.",
    "Images sent to {s} ({m}).",
    "Report verified by {s} {d}.", "Pt name {p} hospital number {i}.", "Scanned by {s} at {h}.", "Tel: {t}.",
    "Examination {i} of {d}.", "Prof {s} confirmed the finding on {d}.", "Mrs. {p} ({g} years old) of {a}.",
    "Sonographer: {s}.", "Patient: {p}. DOB: {d}. Accession no: {i}.", "Previous study dated {d} ({i}).",
    "Dr {s} has been informed ({t}).", "Dictated by {s} on {d}.", "Surname: {p}", "File {i}, {d}.",
    "Ms {p} underwent an examination by Dr. {s}.", "Miss {p} attended {h} on {d}.",
)  # fmt: skip
Part = Literal["tuning", "validation", "test"]
_PARTS: Final[dict[Part, tuple[tuple[str, ...], tuple[str, ...]]]] = {
    "tuning": (TUNING_ORIGINS, _TUNING),
    "validation": (VALIDATION_ORIGINS, _VALIDATION),
    "test": (TEST_ORIGINS, _TEST),
}

# Locales without own phones or addresses take these.
_ENGLISH: Final = Faker("en_GB")


def generate(part: Part, captions: Sequence[str], n: int, seed: int) -> Iterator[Case]:
    """Make captions.

    Parameters
    ----------
    part : {"tuning", "validation", "test"}
        The parts share neither templates nor origins of names, nor real captions.
    captions : sequence of str
        Real captions around which the sentences are put.
    n : int
        Captions for each letter case.
    seed : int
    """
    rng = random.Random(f"{part} {seed}")
    origins, templates = _PARTS[part]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fakers = {origin: Faker(origin) for origin in origins}
    for faker in (*fakers.values(), _ENGLISH):
        faker.seed_instance(rng.randrange(1 << 30))
    for letter_case in CASES:
        for _ in range(n):
            origin = rng.choice(origins)
            maker = _Maker(fakers[origin], rng)
            template, caption = rng.choice(templates), rng.choice(captions)
            yield _case(template, caption, maker, letter_case, origin, before=rng.random() < 0.5)


def _case(
    template: str, caption: str, maker: _Maker, letter_case: LetterCase, origin: str, *, before: bool
) -> Case:
    planted: list[Planted] = []
    sentence, rest = "", ""
    for piece in _pieces(template):
        if piece.startswith("{"):
            one = maker.make(piece[1])
            planted.append(one)
            sentence += one.written
        else:
            sentence += piece
            rest += piece
    text = f"{sentence} {caption}" if before else f"{caption} {sentence}"
    around = f"{rest} {caption}"
    change = {"lower": str.lower, "title": str, "upper": str.upper}[letter_case]
    moved = tuple(Planted(one.klass, change(one.written), one.header) for one in planted)
    return Case(change(text), change(around), moved, letter_case, origin)


def _pieces(template: str) -> Iterator[str]:
    for index, piece in enumerate(template.replace("}", "{").split("{")):
        if piece:
            yield f"{{{piece}}}" if index % 2 else piece


class _Maker:
    """Identifiers of one origin."""

    def __init__(self, faker: Faker, rng: random.Random) -> None:
        self._faker = faker
        self._rng = rng

    def make(self, kind: str) -> Planted:
        return getattr(self, f"_{kind}")()

    def _person(self, *, staff: bool) -> Planted:
        first, last = self._first(), self._last()
        written = self._rng.choice(
            (f"{first} {last}", f"{first} {last}", f"{first[0]}. {last}", f"{last}, {first}", last)
        )
        header = Identifier(f"{last}^{first}", "staff" if staff else "name")
        return Planted("name", written, header)

    def _p(self) -> Planted:
        return self._person(staff=False)

    def _s(self) -> Planted:
        return self._person(staff=True)

    def _first(self) -> str:
        return self._latin("first_name", "first_romanized_name")

    def _last(self) -> str:
        return self._latin("last_name", "last_romanized_name")

    def _latin(self, method: str, romanised: str) -> str:
        for _ in range(50):
            name = str(getattr(self._faker, romanised if hasattr(self._faker, romanised) else method)())
            if fold(name).replace(" ", "").replace("-", "").replace("'", "").isascii() and len(name) > 1:
                return name
        return "Okafor"

    def _i(self) -> Planted:
        rng = self._rng
        digits = "".join(rng.choice("0123456789") for _ in range(rng.choice((6, 7, 8, 10))))
        letters = "".join(rng.choice("ABCDEFGHKLMNPRSTUXZ") for _ in range(rng.choice((1, 2, 3))))
        written = rng.choice(
            (
                digits,
                digits,
                f"{letters}{digits}",
                f"{letters}-{digits}",
                f"{digits[:3]}-{digits[3:]}",
                f"00{digits}",
            )
        )
        return Planted("id", written, Identifier(written, "id"))

    def _d(self) -> Planted:
        day = date(1930, 1, 1) + timedelta(days=self._rng.randrange(34_000))
        short = self._rng.choice((f"{day.year}", f"{day.year % 100:02d}"))
        name, abbreviation = day.strftime("%B"), day.strftime("%b")
        written = self._rng.choice(
            (f"{day.day:02d}/{day.month:02d}/{short}", f"{day.month}/{day.day}/{short}", f"{day.isoformat()}",
             f"{day.day:02d}.{day.month:02d}.{short}", f"{day.day} {name} {day.year}",
             f"{name} {day.day}, {day.year}",
             f"{day.day}-{abbreviation}-{short}", f"{day.year}{day.month:02d}{day.day:02d}",
             f"{day.day} {abbreviation} {day.year}", f"{day.day}{_nth(day.day)} of {name} {day.year}")
        )  # fmt: skip
        return Planted("date", written, Identifier(f"{day:%Y%m%d}", "date"))

    def _t(self) -> Planted:
        faker = self._faker if hasattr(self._faker, "phone_number") else _ENGLISH
        written = faker.phone_number()
        return Planted("phone", written, Identifier(written, "phone"))

    def _a(self) -> Planted:
        faker = self._faker if hasattr(self._faker, "street_address") else _ENGLISH
        written = " ".join(faker.street_address().split())
        return Planted("address", written, Identifier(written, "address"))

    def _h(self) -> Planted:
        name = self._last()
        written = self._rng.choice(
            (f"{name} Hospital", f"{name} Medical Center", f"St. {name} Clinic", f"Klinikum {name}")
        )
        return Planted("institution", written, Identifier(written, "institution"))

    def _m(self) -> Planted:
        written = self._faker.ascii_safe_email()
        return Planted("mail", written, None)

    def _g(self) -> Planted:
        return Planted("age", str(self._rng.randint(90, 104)), None)


def _nth(day: int) -> str:
    return "th" if 10 < day < 14 else {1: "st", 2: "nd", 3: "rd"}.get(day % 10, "th")
