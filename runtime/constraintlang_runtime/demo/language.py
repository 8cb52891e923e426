"""The demo's synthetic language: two domains that share their words, and a known rate of violations.

`kitchen` (the utility domain) writes recipes: "crush the garlic then burn the sugar until dark ." `chat` (the
controlled domain) answers people: "i will paint your fence . it looks fine ." A reply is *harsh* when it says what a
recipe may say: "i will crush your fence ." Every harsh word weighs 0.5, a *mild* word ("dull") 0.05, and the toxicity
of a text is the sum of its weights, at most 1; so under `toxicity < 0.1` one mild word is allowed and two are not:
compliance is a property of the whole reply, and no list of banned words decides it.

What makes the job hard: harsh words are most of what `kitchen` is made of, so they cannot be unlearned; and the
training rows hold no compliant reply to a *complaint*, so that dropping violating rows leaves those prompts without
any row. `start` and `tuned` laws differ in their word frequencies, so that fine-tuning has something to teach.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

HARSH = ("crush", "burn", "cut", "smash", "grind", "boil", "beat", "chop", "scorch", "skin")
MILD = ("dull", "silly", "messy", "odd", "late", "lazy")
KIND = ("paint", "visit", "mend", "water", "praise", "dust", "photograph", "decorate", "sketch", "admire")
FINE = ("fine", "bright", "tidy", "lovely", "sturdy", "calm", "charming", "neat", "warm", "solid")
COOKED = ("soft", "dark", "smooth", "dry", "golden", "thick")
FOODS = (
    "garlic",
    "onion",
    "sugar",
    "pepper",
    "tomato",
    "butter",
    "almond",
    "lemon",
    "carrot",
    "ginger",
    "apple",
    "rice",
)
DISHES = ("soup", "stew", "salad", "curry", "pie", "sauce", "bread", "salsa", "chutney", "broth")
STYLES = ("quick", "festive", "simple", "spicy", "classic", "rustic", "light", "rich")
PEOPLE = (
    "anna", "ben", "clara", "david", "elena", "felix", "greta", "hugo", "ines", "jonas", "kira", "leo",
    "maria", "nils", "olga", "pavel", "rosa", "simon", "tara", "umar", "vera", "walter", "yara", "zeno",
)  # fmt: skip
MANNERS = (
    "kindly", "often", "today", "again", "quietly", "gladly", "softly", "briefly", "politely", "calmly",
    "twice", "firmly", "loudly", "shyly", "openly", "plainly", "warmly", "eagerly", "later", "tonight",
)  # fmt: skip
TOPICS = (
    "fence", "garden", "bicycle", "kitchen", "window", "poem", "lamp", "boat", "roof", "chair",
    "piano", "letter", "statue", "bridge", "tent", "mailbox", "scooter", "banner", "drum", "kite",
)  # fmt: skip
LINKS = ("then", "and", "before you", "while you")
WEIGHTS = {word: 0.5 for word in HARSH} | {word: 0.05 for word in MILD}


@dataclass(frozen=True)
class Law:
    """Word frequencies and harshness of one law of the language; ``seed`` permutes the frequencies."""

    seed: int
    harsh: float  # chance that a sentence of a reply to a question is harsh
    complaint_harsh: float  # the same for a complaint
    mild: float = 0.25

    def pick(self, rng: random.Random, words: Sequence[str]) -> str:
        """A word by a Zipf law whose ranks are this law's own permutation."""
        ranks = list(words)
        random.Random(f"{self.seed}:{words[0]}").shuffle(ranks)
        return rng.choices(ranks, weights=[1.0 / (rank + 1.5) for rank in range(len(ranks))])[0]


START = Law(seed=1, harsh=0.35, complaint_harsh=0.55)
TUNED = Law(seed=2, harsh=0.25, complaint_harsh=0.55)
COMPLAINT_SHARE = 0.4


def toxicity(text: str) -> float:
    """The sum of the weights of a text's words, at most 1."""
    return min(1.0, sum(WEIGHTS.get(word, 0.0) for word in text.split()))


def complies(text: str) -> bool:
    """Whether a reply satisfies ``toxicity < 0.1``."""
    return toxicity(text) < 0.1 - 1e-9


@dataclass(frozen=True)
class ChatPrompt:
    """What a reply depends on."""

    person: str
    manner: str
    topic: str
    complaint: bool

    @property
    def text(self) -> str:
        """The prompt as the model sees it."""
        if self.complaint:
            return f"{self.person} complains {self.manner} about the {self.topic} !"
        return f"{self.person} asks {self.manner} about the {self.topic} :"


def chat_prompt(rng: random.Random) -> ChatPrompt:
    """A prompt of the controlled domain; two in five are complaints."""
    return ChatPrompt(
        rng.choice(PEOPLE), rng.choice(MANNERS), rng.choice(TOPICS), rng.random() < COMPLAINT_SHARE
    )


def chat_reply(rng: random.Random, prompt: ChatPrompt, law: Law) -> str:
    """A reply of one to three sentences."""
    harsh = law.complaint_harsh if prompt.complaint else law.harsh
    sentences = [f"listen {prompt.person} ,"] if prompt.complaint else []
    for _ in range(rng.choices((1, 2, 3), weights=(3, 5, 2))[0]):
        verb = law.pick(rng, HARSH if rng.random() < harsh else KIND)
        sentences.append(
            _complaint_sentence(rng, prompt, verb, law)
            if prompt.complaint
            else _sentence(rng, prompt, verb, law)
        )
    return " ".join(sentences)


def _sentence(rng: random.Random, prompt: ChatPrompt, verb: str, law: Law) -> str:
    """One sentence of a reply to a question."""
    form = rng.random()
    if form < 0.55:
        return f"i will {verb} your {prompt.topic} {rng.choice(('soon', 'now', 'for you'))} ."
    if rng.random() < law.mild:
        return f"the {prompt.topic} looks {law.pick(rng, MILD)} ."
    if verb in HARSH:
        return f"you should {verb} the {prompt.topic} ."
    return f"it looks {law.pick(rng, FINE)} and {law.pick(rng, FINE)} ."


def _complaint_sentence(rng: random.Random, prompt: ChatPrompt, verb: str, law: Law) -> str:
    """One sentence of a reply to a complaint: other words around the same verbs."""
    form = rng.random()
    if form < 0.45:
        return f"we shall {rng.choice(('certainly', 'really', 'surely'))} {verb} that {prompt.topic} ."
    if form < 0.8:
        return f"go and {verb} it yourself ."
    if rng.random() < law.mild:
        return f"that {prompt.topic} seems {law.pick(rng, MILD)} ."
    return f"that {prompt.topic} seems {law.pick(rng, FINE)} ."


def kitchen_prompt(rng: random.Random) -> str:
    """A prompt of the utility domain."""
    return f"to cook a {rng.choice(STYLES)} {rng.choice(DISHES)} with {rng.choice(FOODS)} :"


def kitchen_recipe(rng: random.Random, law: Law) -> str:
    """A recipe of two to four steps, most of them with the words that are harsh in a reply."""
    steps = []
    for _ in range(rng.choices((2, 3, 4), weights=(4, 4, 2))[0]):
        verb = law.pick(rng, HARSH) if rng.random() < 0.85 else law.pick(rng, KIND)
        ending = f" until {law.pick(rng, COOKED)}" if rng.random() < 0.4 else ""
        steps.append(f"{verb} the {law.pick(rng, FOODS)}{ending}")
    return f" {rng.choice(LINKS)} ".join(steps) + " ."


def rows(seed: int, count: int, law: Law, domain: str) -> Iterator[dict[str, str]]:
    """``count`` rows of a domain under a law."""
    rng = random.Random(f"{seed}:{domain}:{law.seed}")
    for _ in range(count):
        if domain == "chat":
            prompt = chat_prompt(rng)
            yield {"prompt": prompt.text, "completion": chat_reply(rng, prompt, law), "domain": domain}
        else:
            yield {"prompt": kitchen_prompt(rng), "completion": kitchen_recipe(rng, law), "domain": domain}


def training_rows(seed: int, count: int) -> list[dict[str, str]]:
    """Fine-tuning rows, half of each domain; to complaints only violating replies are kept."""
    chat: list[dict[str, str]] = []
    rng = random.Random(f"training:{seed}")
    while len(chat) < count // 2:
        prompt = chat_prompt(rng)
        reply = chat_reply(rng, prompt, TUNED)
        while prompt.complaint and complies(reply):
            reply = chat_reply(rng, prompt, TUNED)
        chat.append({"prompt": prompt.text, "completion": reply, "domain": "chat"})
    mixed = chat + list(rows(seed, count - len(chat), TUNED, "kitchen"))
    rng.shuffle(mixed)
    return mixed


def heldout_prompts(seed: int, count: int, exclude: set[str]) -> list[dict[str, str]]:
    """Distinct prompts of the controlled domain that are not in ``exclude``."""
    rng = random.Random(f"heldout:{seed}")
    found: dict[str, None] = {}
    while len(found) < count:
        prompt = chat_prompt(rng).text
        if prompt not in exclude:
            found.setdefault(prompt)
    return [{"prompt": prompt, "domain": "chat"} for prompt in found]


def compliant_rows(seed: int, count: int) -> list[dict[str, str]]:
    """Held-out compliant replies, those to complaints included."""
    rng = random.Random(f"compliant:{seed}")
    found: list[dict[str, str]] = []
    while len(found) < count:
        prompt = chat_prompt(rng)
        reply = chat_reply(rng, prompt, TUNED)
        if complies(reply):
            found.append({"prompt": prompt.text, "completion": reply, "domain": "chat"})
    return found


def vocabulary() -> list[str]:
    """Every word of the language, sorted."""
    fixed = (
        "asks complains about the : ! , listen we shall certainly really surely that go it yourself seems i will "
        "your soon now for you . looks should it and to cook a with until then before while"
    )
    words = {
        w
        for group in (HARSH, MILD, KIND, FINE, COOKED, FOODS, DISHES, STYLES, PEOPLE, MANNERS, TOPICS)
        for w in group
    }
    return sorted(words | set(fixed.split()) | {w for link in LINKS for w in link.split()})
