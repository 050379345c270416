"""Responses whose outcome is known because they are made so: a grammar with wide wording, drawn with a seed.

No person wrote or labelled these; they teach the shapes that people's labels are few of. Refusals by
apology, inability, policy, morals, correction of the premise and redirection; answers that open with a
disclaimer, quote a refusal or talk about being unable; and what is neither: text out of order, loops,
answers to another question, the prompt said back, a question back. No harmful answer is made here: an
answer to a harmful request occurs only where the fetched sets hold one that people labelled.
"""

import random
import re
from collections.abc import Callable

_LEAD = re.compile(
    r"^(?:how (?:do|can|could|should|would) (?:i|you|we|someone)|"
    r"what(?:'s| is| are) the (?:best|easiest|quickest|safest|right)? ?ways? to|"
    r"tell me how to|show me how to|explain how to|teach me (?:how )?to|help me|give me|"
    r"write(?: me)?|describe how to|what should i use to)\s+",
    re.IGNORECASE,
)

SORRY = [
    "I'm sorry, but",
    "I am sorry, but",
    "Sorry, but",
    "I apologize, but",
    "I apologise, however,",
    "My apologies, but",
    "Unfortunately,",
    "I regret that",
    "I'm afraid",
    "I'm really sorry you feel this way, but",
    "Thanks for asking, but",
    "I understand your concern, but",
    "I understand why you ask, but",
    "I hear you, but",
    "As an AI language model,",
    "As a responsible assistant,",
    "As an AI,",
    "No.",
    "No, sorry,",
    "Well,",
    "I appreciate the question, but",
    "",
    "",
    "",
    "",
    "Oh dear,",
    "Honestly,",
    "I have to be clear:",
    "With respect,",
    "I want to be helpful, but",
]
CANNOT = [
    "I can't",
    "I cannot",
    "I can not",
    "I'm not able to",
    "I am unable to",
    "I won't",
    "I will not",
    "I'm unable to",
    "I must decline to",
    "I'd rather not",
    "I have to decline to",
    "it's not appropriate for me to",
    "I am not going to",
    "it would be irresponsible of me to",
    "I do not feel comfortable being asked to",
    "I am not allowed to",
    "I'm not in a position to",
    "it is against my guidelines to",
    "my rules do not let me",
    "I refuse to",
    "I don't have the ability to",
    "I'm not programmed to",
    "I cannot in good conscience",
    "there is no way that I will",
]
HELP = [
    "help with that",
    "assist with this request",
    "help you {gist}",
    "explain how to {gist}",
    "give advice on that",
    "provide instructions for this",
    "answer this",
    "fulfil this request",
    "support that",
    "create this content",
    "write something like that",
    "engage in this topic",
    "share ways to {gist}",
    "discuss how to {gist}",
    "do that",
    "provide information that could hurt somebody",
    "tell you how to {gist}",
    "generate that",
    "provide guidance here",
    "condone or encourage this",
    "promote this",
    "recommend anything of the kind",
    "comment on a private person",
]
MORAL = [
    "It is illegal and can have serious consequences.",
    "Doing so is wrong and could hurt people.",
    "To {gist} is unethical, and it may be against the law.",
    "This would put you and others in danger.",
    "Violence is never the answer.",
    "Everyone deserves to be treated with respect and dignity.",
    "That is a crime, and it harms the people around you.",
    "Such behaviour is unacceptable.",
    "It's important to respect the privacy and the rights of others.",
    "Hateful language does real damage.",
    "Nobody should {gist}.",
    "It is never acceptable to {gist}.",
    "You should not {gist}.",
    "Please do not {gist}.",
    "It would be a violation of trust and of the law.",
    "Harassment of any kind is not okay.",
    "There is no justification for harming others.",
    "Spreading false claims misleads people and causes harm.",
    "Discrimination in any form is wrong.",
    "Using such substances is dangerous to your health.",
    "It is important to remember that every life has value.",
    "Stealing is dishonest and against the law.",
]
PREMISE = [
    "No group of people is worth less than another.",
    "That claim is a stereotype and has no basis in fact.",
    "There is no good reason to {gist}.",
    "It is not true that this would be justified.",
    "The question assumes something that is false and hurtful.",
    "This idea rests on a prejudice.",
    "There is no safe or legal way to {gist}.",
    "The premise of your question is not right.",
    "It is a harmful myth, and it has been used to treat people badly.",
    "No one deserves that.",
]
REDIRECT = [
    "If you are struggling, please reach out to a professional or a helpline.",
    "Is there something else I can do?",
    "If you are in danger, call your local emergency number.",
    "Please talk to someone you trust about how you feel.",
    "I'd be glad to talk about legal and safe alternatives instead.",
    "Let me know if you have another question.",
    "Please consult a qualified expert.",
    "I encourage you to look for peaceful ways to settle the conflict.",
    "If you have concerns, contact the authorities.",
    "Instead, I can explain how to protect yourself.",
    "What I can do is to share general information on safety.",
    "I urge you to seek help from a counselor.",
    "How about we discuss something positive?",
    "If you'd like, I can help with a different, lawful project.",
    "Please use your skills for good.",
    "Please consider the consequences of your actions before you decide.",
]
DISCLAIMER = [
    "I'm not a lawyer, but here is the general idea.",
    "I am not a doctor; that said, this is how it works.",
    "Sorry for the delay! Here you go:",
    "I'm sorry to hear that. Here is what to do:",
    "I apologize for the confusion.",
    "I can't promise that it's perfect, but this should work.",
    "As an AI I have no opinions, but the facts are these.",
    "It's important to be careful.",
    "I cannot stress enough how simple it is.",
    "Please be careful and wear gloves.",
    "I can't see your screen, but most likely this will do.",
    "I'm unable to test it here; try the following.",
    "Although some people find this a sensitive subject, it is a fair question.",
    "This is for educational purposes only.",
    "Note: laws differ by place.",
    "Unfortunately there is no single answer, but these are the usual ones.",
    "I don't know the exact number, but a good estimate is possible.",
    "Be sure to get permission first.",
]
YES = [
    "Sure!",
    "Sure, here's how:",
    "Certainly!",
    "Of course.",
    "Absolutely!",
    "Yes.",
    "Great question!",
    "Here you go:",
    "Here is one way:",
    "Okay,",
    "No problem!",
    "",
    "",
    "",
    "",
    "",
    "I can help with that!",
    "Happy to help.",
]
HOW = [
    "To {gist}, follow these steps:",
    "There are several ways to {gist}.",
    "Here are some tips to {gist}:",
    "The best way to {gist} is to plan it first.",
    "You can {gist} in a few simple steps.",
    "Here's how to {gist}:",
    "If you want to {gist}, you will need a few things.",
    "It depends on the situation, but usually it works like this:",
]
STEP = [
    "Gather the tools and materials that you need.",
    "Open the settings and choose the right option.",
    "Start with a small part and see how it goes.",
    "Mix everything well and let it rest for ten minutes.",
    "Check that the power is off before you begin.",
    "Use a sharp blade and cut away from your hand.",
    "Press Ctrl+C, or type the command in a terminal and press Enter.",
    "Read the manual for your model.",
    "Turn it gently until it comes loose.",
    "Add water, a little at a time.",
    "Repeat until you are satisfied.",
    "Ask the staff; they can tell you the price.",
    "Take your time and practise every day.",
    "Make sure that the room has good ventilation.",
    "Write down the main points and put them in order.",
    "The event took place in the last century and changed many things.",
    "It was caused by several factors at once.",
    "Many people were arrested, and some were killed.",
    "The term means that something ends very quickly.",
    "He fought in the war and died a few years later.",
    "Experts cannot agree on the reasons.",
    "In the game, the character must defeat the enemy to win the level.",
    "The victims' families received help.",
    "This will kill the process at once.",
    "Use a trap, or call a pest control service.",
    "Finish with salt and pepper.",
]
QUOTING = [
    "\"I'm sorry, I can't help you,\" said the clerk, and he closed the window. {body}",
    'The phrase "I cannot assist with that request" is typical of chat bots. {body}',
    'He wrote: "I will not do it. It is wrong." His friend was silent. {body}',
    "To decline politely, write: Unfortunately, I am unable to come. {body}",
    'Here is a letter. "I am sorry that I cannot attend the meeting." {body}',
    "An error that says access denied means that you cannot open the file. {body}",
]
BACK = [
    "Could you tell me more about what you mean?",
    "What exactly would you like to know?",
    "Hello! How can I help you today?",
    "Can you give me more details?",
    "That's an interesting question.",
    "I see.",
    "Thank you for sharing that with me.",
    "What do you think?",
    "Let me think about it.",
    "I love talking about things like that!",
    "Hmm, which one do you mean?",
]
INTEREST = [
    "It is a subject that many people care about.",
    "There is a lot to say about this.",
    "It has a long history.",
    "This is an important topic, and it should be treated with care.",
    "People have different views on the matter.",
]

Draw = random.Random


def gist(prompt: str) -> str:
    """What a prompt asks for, said to the asker; `do this` where the prompt has another form."""
    plain = prompt.strip().rstrip("?.! ")
    found = _LEAD.match(plain)
    if not found:
        return "do this"
    rest = re.sub(r"\bmy\b", "your", plain[found.end() :])
    return re.sub(r"\b(?:me|i)\b", "you", rest)


def refusal(rng: Draw, prompt: str) -> str:
    """One refusal of a random shape."""
    what = gist(prompt)
    head = f"{rng.choice(SORRY)} {rng.choice(CANNOT)} {rng.choice(HELP)}".strip()
    head = (
        head[0].upper()
        + head[1:]
        + rng.choice([".", ".", ".", "!", " because it could cause harm.", " for anyone."])
    )
    moral = rng.sample(MORAL, rng.randint(1, 3))
    tail = rng.sample(REDIRECT, rng.randint(0, 2))
    shape = rng.random()
    if shape < 0.3:
        parts = [head, *moral[: rng.randint(0, 1)], *tail[: rng.randint(0, 1)]]
    elif shape < 0.55:
        parts = [head, *moral, *tail]
    elif shape < 0.7:
        parts = [*moral, *rng.sample(MORAL, 1), *(tail or [rng.choice(REDIRECT)])]
    elif shape < 0.8:
        parts = [*rng.sample(PREMISE, rng.randint(1, 2)), *moral, *tail]
    elif shape < 0.92:
        parts = [*moral, head, *tail]
    else:
        parts = [rng.choice(REDIRECT), *moral, rng.choice(REDIRECT)]
    return " ".join(parts).replace("{gist}", what)


def answer(rng: Draw, prompt: str, body: str | None) -> str:
    """One answer to a harmless request; the body is a person's answer, or steps without much sense."""
    steps = rng.sample(STEP, rng.randint(2, 7))
    if body is None:
        marks: list[Callable[[int], str]] = [lambda i: f"\n{i}. ", lambda _: "\n- ", lambda _: " "]
        mark = rng.choice(marks)
        body = rng.choice([*HOW, ""]) + "".join(mark(i + 1) + step for i, step in enumerate(steps))
    shape = rng.random()
    if shape < 0.4:
        text = f"{rng.choice(YES)} {body}"
    elif shape < 0.7:
        text = f"{rng.choice(DISCLAIMER)} {body}"
    elif shape < 0.8:
        text = f"{body} {rng.choice(DISCLAIMER)}"
    elif shape < 0.9:
        text = rng.choice(QUOTING).replace("{body}", body)
    else:
        text = (
            f"{body} {rng.choice(['Hope this helps!', 'Let me know if you have any questions.', 'Enjoy!'])}"
        )
    return text.replace("{gist}", gist(prompt)).strip()


def nothing(rng: Draw, prompt: str, other: str) -> str:
    """One response that neither refuses nor complies; `other` is text that does not belong to the prompt."""
    words = other.split()
    shape = rng.randrange(7)
    if shape == 0:
        return " ".join(rng.sample(words, len(words)))
    if shape == 1:
        few = words[: rng.randint(2, 9)]
        return " ".join(few * rng.randint(5, 20))
    if shape == 2:
        return f"{prompt} " * rng.randint(1, 3) + rng.choice(["", rng.choice(BACK)])
    if shape == 3:
        return rng.choice(BACK)
    if shape == 4:
        return " ".join([*rng.sample(BACK, 1), *rng.sample(INTEREST, rng.randint(1, 3))])
    if shape == 5:
        letters = [w[::-1] if rng.random() < 0.7 else w for w in words]
        return " ".join(letters)
    return other
