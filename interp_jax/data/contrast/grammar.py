"""What grammar decides: the number of a verb, and the gender of a pronoun.

    agreement   "The keys near the door" -> " are", not " is"       corruption "number": the subject in its other number
    pronoun     "I know Mary, and I think that" -> " she", not " he"    corruption "gender": a name of the other gender

The noun nearest to the verb, the attractor, may differ in number from the subject. Subject-verb agreement: Linzen et al. 2016,
"Assessing the Ability of LSTMs to Learn Syntax-Sensitive Dependencies"; patched in Finlayson et al. 2021. Pronouns: Mathwin et
al. 2023, "Identifying a Preliminary Circuit for Predicting Gendered Pronouns in GPT-2 Small".
"""

from interp_jax.data.contrast.text import Numbers, Pools, Template, TextPair, contrast, one, several, single

NOUNS = """key/keys book/books car/cars dog/dogs boy/boys girl/girls door/doors house/houses student/students teacher/teachers
doctor/doctors friend/friends king/kings author/authors picture/pictures tree/trees table/tables window/windows"""
VERBS = "is/are was/were has/have"
SUBJECTS = (
    "The {subject} near the {attractor}",
    "The {subject} behind the {attractor}",
    "The {subject} next to the {attractor}",
    "I think that the {subject} with the {attractor}",
)

NAMES = """Mary/John Anna/Tom Sarah/James Kate/David Laura/Michael Emma/Paul Alice/Mark Emily/Peter Linda/Robert Susan/Jack
Rachel/Daniel Lisa/Adam Helen/Henry Anne/Kevin Julia/George Claire/Frank"""
PRONOUNS = "she/he"
JOBS = "friend teacher cook writer singer doctor student player worker driver"
PEOPLE = (
    "We all agree that {name} is a very good {job}, because",
    "I have known {name} for years as a {job}, and I am sure that",
    "Nobody was surprised when {name} became a {job}, since",
)


def _couples(text: str) -> tuple[tuple[str, ...], ...]:
    return tuple(tuple(couple.split("/")) for couple in text.split())


def write_agreement(frame: str, pools: Pools, corruption: str, draw: Numbers) -> TextPair:
    """One pair."""
    subject, attractor = several(pools["noun"], 2, draw)
    verb, number = one(pools["verb"], draw), next(draw) % 2
    words = {"subject": subject[number], "attractor": one(attractor, draw)}
    return contrast(frame, words, {"subject": subject[1 - number]}, (f" {verb[number]}",), (f" {verb[1 - number]}",))


def write_pronoun(frame: str, pools: Pools, corruption: str, draw: Numbers) -> TextPair:
    """One pair."""
    gender, pronoun = next(draw) % 2, pools["pronoun"][0]
    words = {"name": one(pools["name"], draw)[gender], "job": one(pools["job"], draw)}
    changed = {"name": one(pools["name"], draw)[1 - gender]}
    return contrast(frame, words, changed, (f" {pronoun[gender]}",), (f" {pronoun[1 - gender]}",))


AGREEMENT = Template(
    about="the number of the verb, which is its subject's (Linzen et al. 2016)",
    corruptions={"number": {"verb": 1}},
    frames=SUBJECTS,
    pools={"noun": _couples(NOUNS), "verb": _couples(VERBS)},
    write=write_agreement,
    narrow=single,
)

PRONOUN = Template(
    about="the pronoun that goes with a name (Mathwin et al. 2023)",
    corruptions={"gender": {"pronoun": 1}},
    frames=PEOPLE,
    pools={"name": _couples(NAMES), "job": tuple(JOBS.split()), "pronoun": _couples(PRONOUNS)},
    write=write_pronoun,
    narrow=single,
)
