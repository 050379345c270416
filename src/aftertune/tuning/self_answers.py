"""`answers: self`: the data's answers replaced by the base model's own, drawn greedily once and kept.

What a fine-tune on such data changes is not what the data teach: the model had given these answers already.
"""

from collections.abc import Collection, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from aftertune.data import Conversation, Message, TuningData
from aftertune.engines.base import Prompt, make_request
from aftertune.engines.draw import Draw, draw_into
from aftertune.errors import DataError
from aftertune.records import RESPONSE_COLUMNS, Checkpoint, Progress, ResponseStatus
from aftertune.store import RunDirectory, content_key, read_shards, shard_told
from aftertune.study import Decoding

if TYPE_CHECKING:
    from aftertune.engines.base import Engine


def ask_base(engine: "Engine", base: Checkpoint, data: TuningData, *, max_tokens: int) -> tuple[Draw, ...]:
    """The greedy draw that answers each of the data's own rows, in their order; none is made yet.

    The refusals of a safety mix keep their given answers.

    Raises:
        DataError: a row has more than one answer.
    """
    decoding = Decoding(temperature=0, max_tokens=max_tokens)
    content, identity = content_key(decoding.content()), engine.identity
    draws: list[Draw] = []
    for row, conversation in enumerate(data.conversations[: data.n_own], start=1):
        prompt = _prompt(engine, conversation, where=f"{data.source}, row {row}")
        stream = (str(base.sha256), "answers", prompt.sha256, content, 1)
        # Greedy answers draw no random numbers, so they are the same under any root seed.
        request = make_request(base, prompt, decoding, root_seed=0, stream=stream, engine=identity)
        draws.append(Draw(f"data:{data.source}", f"row {row}", "self", 1, request))
    return tuple(draws)


def answer_by_base(
    run: RunDirectory,
    engine: "Engine",
    data: TuningData,
    *,
    asked: Sequence[Draw],
    rows: Collection[int],
    progress: Progress,
) -> TuningData:
    """The same prompts with the base's answers.

    Args:
        run: keeps the answers.
        engine: of the base.
        data: whose answers are replaced.
        asked: `ask_base` of these data; the keys of the draws make the hash of the result, so that it does
            not depend on `rows`.
        rows: indices of the rows that some seed draws; the others lose their answers and are left with
            the question, which cannot be trained on.
        progress: told ("answers", done, total).

    Raises:
        DataError: the base answers one of the rows with nothing.
    """
    wanted = {asked[row].request.key: asked[row] for row in sorted(rows) if row < data.n_own}
    texts = _answers(run, engine, wanted, progress)
    conversations: list[Conversation] = []
    own, mixed = data.conversations[: data.n_own], data.conversations[data.n_own :]
    for row, (conversation, draw) in enumerate(zip(own, asked, strict=True)):
        text = texts[draw.request.key].strip() if row in rows else None
        if text == "":
            raise DataError(
                f"{data.source}, row {row + 1}: the base answers it with nothing; "
                "`answers: self` needs a text",
                "leave the row out",
            )
        answer = () if text is None else (Message("assistant", text),)
        conversations.append((*conversation[:-1], *answer))
    given = [[(message.role, message.content) for message in row] for row in mixed]
    sha256 = content_key([*(draw.request.key for draw in asked), *given])
    source = f"{data.source}, answers by the base"
    return replace(data, source=source, sha256=sha256, conversations=(*conversations, *mixed))


def _prompt(engine: "Engine", conversation: Conversation, *, where: str) -> Prompt:
    roles = [message.role for message in conversation]
    if roles not in (["user", "assistant"], ["system", "user", "assistant"]):
        raise DataError(
            f"{where}: `answers: self` needs one question and one answer, got the roles {', '.join(roles)}",
            "split the conversation, or write `answers: data`",
        )
    system = conversation[0].content if roles[0] == "system" else None
    return engine.render(conversation[-2].content, system)


def _answers(
    run: RunDirectory,
    engine: "Engine",
    wanted: dict[str, Draw],
    progress: Progress,
) -> dict[str, str]:
    kept = read_shards(run.answers, RESPONSE_COLUMNS, aside=run.aside)
    there = set(kept["key"])
    missing = {key: draw for key, draw in wanted.items() if key not in there}
    if missing:
        for n_drawn in draw_into(run.answers, engine, missing, on_shard=partial(shard_told, run, "answers")):
            progress("answers", len(wanted) - len(missing) + n_drawn, len(wanted))
        kept = read_shards(run.answers, RESPONSE_COLUMNS, aside=run.aside)
    return {
        row["key"]: row["text"] if row["status"] == ResponseStatus.OK else ""
        for row in kept.select("key", "text", "status").iter_rows(named=True)
        if row["key"] in wanted
    }
