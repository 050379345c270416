"""Text degraded on purpose, each way with one seed: what a detector of incoherence has to find, or to leave.

The texts in other languages were written for this project.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

OTHER_LANGUAGES = {
    "de": (
        "Zuerst sollten Sie prüfen, ob das Fenster wirklich geschlossen ist.",
        "Danach nehmen Sie das Brot aus dem Ofen und lassen es eine Stunde ruhen.",
        "Wer jeden Tag ein wenig übt, wird nach einigen Wochen einen Unterschied merken.",
        "Am besten fragen Sie einen Nachbarn, der sich mit Gärten auskennt.",
        "Im Winter fährt der letzte Bus schon um acht Uhr abends.",
        "Das Wasser muss kochen, bevor die Nudeln hineinkommen.",
    ),
    "fr": (
        "Il faut d'abord vérifier que la fenêtre est bien fermée.",
        "Ensuite, sortez le pain du four et laissez-le reposer pendant une heure.",
        "Celui qui s'exerce un peu chaque jour verra une différence après quelques semaines.",
        "Le mieux est de demander à un voisin qui connaît bien les jardins.",
        "En hiver, le dernier autobus part déjà à huit heures du soir.",
        "L'eau doit bouillir avant qu'on y mette les pâtes.",
    ),
    "es": (
        "Primero conviene comprobar que la ventana está bien cerrada.",
        "Después saque el pan del horno y déjelo reposar durante una hora.",
        "Quien practica un poco cada día notará la diferencia al cabo de unas semanas.",
        "Lo mejor es preguntar a un vecino que entienda de jardines.",
        "En invierno el último autobús sale ya a las ocho de la noche.",
        "El agua tiene que hervir antes de echar la pasta.",
    ),
    "it": (
        "Per prima cosa bisogna controllare che la finestra sia davvero chiusa.",
        "Poi togliete il pane dal forno e lasciatelo riposare per un'ora.",
        "Chi si esercita un poco ogni giorno vedrà la differenza dopo qualche settimana.",
        "La cosa migliore è chiedere a un vicino che si intenda di giardini.",
        "D'inverno l'ultimo autobus parte già alle otto di sera.",
        "L'acqua deve bollire prima che si butti la pasta.",
    ),
    "nl": (
        "Controleer eerst of het raam echt dicht is.",
        "Haal daarna het brood uit de oven en laat het een uur rusten.",
        "Wie elke dag een beetje oefent, merkt na enkele weken het verschil.",
        "Het beste kunt u een buurman vragen die verstand heeft van tuinen.",
        "In de winter vertrekt de laatste bus al om acht uur 's avonds.",
        "Het water moet koken voordat de pasta erin gaat.",
    ),
}


@dataclass(frozen=True, slots=True)
class Material:
    """What a degradation may draw on besides the text."""

    others: Sequence[str]  # sound answers to other prompts
    vocabulary: Sequence[str]  # the pieces that random tokens are drawn from


Degradation = Callable[[str, Random, Material], str]


def word_shuffle(text: str, random: Random, _: Material) -> str:
    """The text's own words in random order."""
    words = text.split()
    random.shuffle(words)
    return " ".join(words)


def character_noise(share: float) -> Degradation:
    """Each character is replaced, with probability `share`, by a random letter, digit or mark."""

    def degrade(text: str, random: Random, _: Material) -> str:
        letters = "abcdefghijklmnopqrstuvwxyz0123456789.,;:!?"
        return "".join(random.choice(letters) if random.random() < share else c for c in text)

    return degrade


def random_tokens(text: str, random: Random, material: Material) -> str:
    """As many random pieces of the vocabulary as the text has words, and a third more."""
    n = max(1, len(text.split()) * 4 // 3)
    return "".join(random.choice(material.vocabulary) for _ in range(n))


def sentence_loop(text: str, random: Random, _: Material) -> str:
    """The text up to one of its sentences, and that sentence six times over."""
    sentences = re.findall(r"[^.!?\n]+[.!?\n]*\s*", text) or [text]
    at = random.randrange(len(sentences))
    return "".join(sentences[:at]) + (sentences[at].strip() + " ") * 6


def cut_and_join(text: str, random: Random, material: Material) -> str:
    """Pieces of about eight words, in turn from this text and from answers to other prompts."""
    sources = [text.split(), *(random.choice(material.others).split() for _ in range(3))]
    pieces: list[str] = []
    for i in range(max(4, len(text.split()) // 8)):
        words = sources[i % len(sources)]
        start = random.randrange(max(1, len(words) - 8))
        pieces += words[start : start + 8]
    return " ".join(pieces)


def other_answer(_text: str, random: Random, material: Material) -> str:
    """A sound answer to another prompt."""
    return random.choice(material.others)


def truncation(text: str, random: Random, _: Material) -> str:
    """The first half, cut inside a word, as max_tokens does. It is sound: a detection is a false alarm."""
    return text[: max(1, len(text) // 2 + random.randrange(5))]


def another_language(_text: str, random: Random, _: Material) -> str:
    """Three sentences of one of five languages."""
    return " ".join(random.sample(OTHER_LANGUAGES[random.choice(sorted(OTHER_LANGUAGES))], 3))


DEGRADATIONS: dict[str, Degradation] = {
    "word shuffle": word_shuffle,
    "character noise 5%": character_noise(0.05),
    "character noise 15%": character_noise(0.15),
    "character noise 30%": character_noise(0.30),
    "random tokens": random_tokens,
    "sentence loop": sentence_loop,
    "cut and join": cut_and_join,
    "answer to another prompt": other_answer,
    "another language": another_language,
    "truncation (sound)": truncation,
}
