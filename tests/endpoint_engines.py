"""The engine that asks an endpoint, with short waits, and requests to it; its key is in MY_KEY."""

from aftertune.engines.base import Request, make_request
from aftertune.engines.endpoint import Limits
from aftertune.engines.openai import OpenAIEngine
from aftertune.engines.served import served_checkpoints
from aftertune.store import content_key
from aftertune.study import Decoding, OpenAISpec, Study
from endpoint_server import Server

QUICK = Limits(timeout_s=0.3, tries=2, first_wait_s=0.01, total_wait_s=0.2)
SAMPLED = Decoding(temperature=0.7, top_p=0.9, max_tokens=16)


def engine_at(server: Server, **changes) -> OpenAIEngine:
    spec = OpenAISpec(endpoint=server.url, api_key_env="MY_KEY", **changes)
    return OpenAIEngine(spec, limits=QUICK)


def requests_of(engine: OpenAIEngine, n: int = 1, *, decoding: Decoding = SAMPLED) -> list[Request]:
    spec = OpenAISpec(endpoint=engine.at.url)
    study = Study(
        name="s", model="base-7b", tasks=("mini-harm",), judges=("refusal-rules",), decodings={"d": decoding}
    )
    (base,) = served_checkpoints(study, spec)
    return [
        make_request(
            base,
            engine.render(f"prompt {i}", decoding.system_prompt),
            decoding,
            root_seed=7,
            stream=(str(base.sha256), "task", f"item {i}", content_key(decoding.content()), 1),
            engine=engine.identity,
        )
        for i in range(n)
    ]
