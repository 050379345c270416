"""The study file: its grammar, what it refuses, and in which words."""

import copy
import re
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from aftertune.errors import StudyError, nearest
from aftertune.study import CommandRecipe, Study, TuneRecipe, parse_study, read_study, study_schema

# The example of DESIGN section 4, word for word.
EXAMPLE = """
name: demo
model: smollm2-guarded            # a packaged name, a Hugging Face id with revision, or a directory
root_seed: 2025
numerics: exact
recipes:
  chat:      {data: packaged:chat, method: lora, rank: 8, epochs: 1, learning_rate: 5.0e-4, batch_size: 8}
  chat-self: {data: packaged:chat, answers: self, method: lora, rank: 8, epochs: 1, learning_rate: 5.0e-4, batch_size: 8}
  mine:      {command: "python train.py --seed {seed} --output {output}"}
seeds: 5                          # checkpoints per recipe; at least 5 for an interval without a prior
tasks: [mini-harm, mini-lookalikes]
decodings:
  greedy:  {temperature: 0, max_tokens: 96}
  sampled: {temperature: 0.7, max_tokens: 96, repeats: 3}
judges: [refusal-rules, incoherence-rules]
variations:                       # one at a time around the baseline
  - {name: hotter, class: procedure, change: {decodings.sampled.temperature: 1.0}}
  - {name: rows-8, class: numerics, change: {engine.batch_rows: 8}}
analysis:
  primary: {task: mini-harm, decoding: sampled, judge: refusal-rules, metric: compliance_rate, target: benchmark}
  level: 0.95
  margin: 0.05                    # fixed here, before the run; a margin given later is marked post hoc
  max_missing: 0.05               # more missing judgments than this: no conclusion, only bounds
"""  # noqa: E501
# Every key that the example leaves out.
REST = {
    "revision": "0123abcdef0123abcdef0123abcdef0123abcdef",
    "seeds": [3, 1, 4],
    "keep_checkpoints": "last",
    "engine": {"name": "transformers", "batch_rows": 16, "threads": 2, "dtype": "bfloat16", "device": "cpu"},
    "tasks": [
        "mini-lookalikes",
        {
            "name": "mini-harm",
            "file": "harm.csv",
            "intent": "harmful",
            "prompt_column": "goal",
            "id_column": None,
            "category_column": None,
            "where": {"split": "test"},
            "n": 9,
            "source": "a paper",
            "licence": "MIT",
        },
    ],
}
RECIPE = {
    "data": "rows.jsonl",
    "n": 32,
    "alpha": 4,
    "dropout": 0.1,
    "target_modules": ["q_proj", "v_proj"],
    "accumulation": 2,
    "warmup": 0,
    "weight_decay": 0.01,
    "max_grad_norm": 0.5,
    "max_length": 256,
    "gradient_checkpointing": True,
    "self_max_tokens": 64,
    "vary": ["order"],
}


def content() -> dict[str, Any]:
    return yaml.safe_load(EXAMPLE)


def whole() -> dict[str, Any]:
    study = {**content(), **copy.deepcopy(REST)}
    study["recipes"] |= {"rest": dict(RECIPE)}
    study["recipes"]["mine"]["timeout_s"] = 60
    study["decodings"]["sampled"] |= {
        "top_p": 0.9,
        "system_prompt": "Be brief.",
        "repeats": {"default": 1, "base": 5, "chat/3": 2},
    }
    return study


def parse(study: object, folder: Path = Path("/studies")) -> Study:
    return parse_study(study, source="s.yaml", folder=folder)


def put(study: dict[str, Any], dotted: str, value: Any) -> dict[str, Any]:
    place: Any = study
    *path, last = dotted.split("/")
    for key in path:
        place = place[int(key) if isinstance(place, list) else key]
    place[int(last) if isinstance(place, list) else last] = value
    return study


def test_the_example_of_the_design_is_a_study(tmp_path: Path):
    (tmp_path / "s.yaml").write_text(EXAMPLE, encoding="utf-8")
    study = read_study(tmp_path / "s.yaml")
    assert study.seed_list == (1, 2, 3, 4, 5)
    assert [task.name for task in study.tasks] == ["mini-harm", "mini-lookalikes"]
    assert isinstance(study.recipes["chat"], TuneRecipe) and isinstance(study.recipes["mine"], CommandRecipe)
    assert study.variations[0].kind == "procedure"


def test_every_key_is_read():
    study = parse(whole())
    rest = study.recipes["rest"]
    assert isinstance(rest, TuneRecipe)
    assert {key: getattr(rest, key) for key in RECIPE if key != "data"} == {
        **{
            key: tuple(value) if isinstance(value, list) else value
            for key, value in RECIPE.items()
            if key != "data"
        }
    }
    assert study.seed_list == (3, 1, 4)
    task = study.tasks[1]
    assert {key: getattr(task, key) for key in REST["tasks"][1] if key != "file"} == {
        key: value for key, value in REST["tasks"][1].items() if key != "file"
    }
    assert {key: getattr(study.engine, key) for key in REST["engine"]} == REST["engine"]
    assert [study.decodings["sampled"].repeats_of(label) for label in ("base", "chat/3", "chat/1")] == [
        5,
        2,
        1,
    ]
    assert study.decodings["greedy"].repeats_of("base") == 1


@pytest.mark.parametrize("study", [content(), whole()], ids=["example", "every key"])
def test_a_study_survives_json(study: dict[str, Any]):
    parsed = parse(study)
    text = parsed.model_dump_json(by_alias=True)
    assert Study.model_validate_json(text) == parsed
    assert '"class":"procedure"' in text
    # what variations change is a study again
    assert parse(parsed.model_dump(mode="json", by_alias=True), Path("/elsewhere")) == parsed


def test_paths_are_taken_from_the_folder_of_the_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HOME", "/home/ada")
    (tmp_path / "models" / "mine").mkdir(parents=True)
    study = whole()
    study["recipes"]["home"] = {"data": "~/rows.jsonl"}
    for written, read in (
        ("models/mine", str(tmp_path / "models" / "mine")),
        ("./none", str(tmp_path / "none")),
        ("/abs/model", "/abs/model"),
        ("~/model", "/home/ada/model"),
        ("HuggingFaceTB/SmolLM2-135M", "HuggingFaceTB/SmolLM2-135M"),
        ("smollm2-guarded", "smollm2-guarded"),
    ):
        assert parse({**study, "model": written}, tmp_path).model == read
    parsed = parse(study, tmp_path)
    data = {name: recipe.data for name, recipe in parsed.recipes.items() if isinstance(recipe, TuneRecipe)}
    assert data["rest"] == str(tmp_path / "rows.jsonl")
    assert data["chat"] == "packaged:chat"
    assert data["home"] == "/home/ada/rows.jsonl"
    assert parsed.tasks[1].file == str(tmp_path / "harm.csv")
    assert parsed.tasks[0].file is None


def test_names_of_branches_are_no_special_names():
    study = parse(
        {**content(), "recipes": {"tune": {"data": "packaged:chat"}, "command": {"data": "packaged:chat"}}}
    )
    assert set(study.recipes) == {"tune", "command"}
    with pytest.raises(StudyError, match=r"recipes\.tune\.dat: unknown key; did you mean 'data'\?"):
        parse({**content(), "recipes": {"tune": {"dat": "x"}}})


MISSPELT = {
    "recipies": "recipes",
    "recipes/chat/lerning_rate": "learning_rate",
    "recipes/chat/comand": "command",
    "recipes/mine/timeuot_s": "timeout_s",
    "tasks/1/promt_column": "prompt_column",
    "decodings/sampled/temprature": "temperature",
    "variations/0/nam": "name",
    "variations/0/clas": "class",
    "analysis/margn": "margin",
    "analysis/primary/taks": "task",
    "engine/batch_row": "batch_rows",
}


@pytest.mark.parametrize(("key", "meant"), MISSPELT.items())
def test_an_unknown_key_is_named_with_the_nearest(key: str, meant: str):
    with pytest.raises(StudyError) as caught:
        parse(put(whole(), key, "x"))
    assert f"s.yaml: {key.replace('/', '.')}: unknown key; did you mean {meant!r}?" in str(caught.value)
    assert "aftertune schema" in caught.value.remedy


BAD: list[tuple[str, Any, str]] = [
    ("name", "../up", r'name: expected up to 64 letters, .*, got "../up"'),
    ("name", 7, r"name: expected text, got 7: put it in quotes"),
    ("model", "", r"model: expected some text"),
    ("root_seed", -1, r"root_seed: expected at least 0, got -1"),
    ("numerics", "exakt", r"numerics: expected 'exact' or 'fast', got \"exakt\""),
    ("seeds", "five", r's.yaml: seeds: expected a whole number or a list, got "five"\n'),
    ("seeds", 0, r"s.yaml: seeds: expected at least 1 or a list, got 0\n"),
    ("seeds", 2.5, r"seeds: expected a whole number or a list, got 2.5\n"),
    ("seeds", True, r"seeds: expected a whole number or a list, got true\n"),
    ("seeds", [], r"seeds: expected at least 1 entry, got none\n"),
    ("seeds", [1, -1], r"seeds\.1: expected at least 0, got -1\n"),
    ("seeds", [1, "b"], r'seeds\.1: expected a whole number, got "b"\n'),
    ("seeds", [2**63], r"seeds\.0: expected less than"),
    ("seeds", [2, 1, 2], r"s.yaml: seeds names 2 more than once"),
    ("tasks", "mini-harm", r'tasks: expected a list, got "mini-harm"'),
    ("tasks", [], r"tasks: expected at least 1 entry, got none"),
    ("tasks", [3], r"s.yaml: tasks\.0: expected keys and values, got 3\n"),
    ("tasks", ["mini-harm", {"name": "mini-harm"}], r"tasks names mini-harm more than once"),
    (
        "tasks/0",
        {"name": "a", "file": "a.csv", "data_dir": "b"},
        r"task 'a' has file and data_dir: write one of them",
    ),
    (
        "tasks/0",
        {"name": "a", "file": "a.csv", "intent": "bad"},
        r"intent: expected 'harmful' or 'benign', got \"bad\"",
    ),
    ("tasks/1/where", {"split": 1}, r"tasks\.1\.where\.split: expected text, got 1: put it in quotes"),
    ("tasks/1/n", 0, r"tasks\.1\.n: expected at least 1, got 0"),
    ("judges", ["refusal-rules"] * 2, r"judges names refusal-rules more than once"),
    ("judges", [], r"judges: expected at least 1 entry, got none"),
    ("decodings", {}, r"decodings: expected at least 1 entry, got none"),
    ("decodings/greedy/repeats", 3, r"decodings\.greedy: temperature 0 gives the same response every time"),
    ("decodings/sampled/temperature", float("nan"), r"temperature: expected a finite number, got NaN"),
    ("decodings/sampled/top_p", 1.5, r"top_p: expected at most 1\.0, got 1\.5"),
    ("decodings/sampled/repeats", "x", r"repeats: expected a whole number or keys and values, got \"x\"\n"),
    (
        "decodings/sampled/repeats",
        {"chat/3": 0},
        r"s.yaml: decodings\.sampled\.repeats\.chat/3: expected at least 1",
    ),
    (
        "decodings/sampled/repeats",
        {"chta/3": 2},
        r"decodings\.sampled\.repeats names 'chta/3'; did you mean 'chat/3'\?",
    ),
    ("decodings/sampled/repeats", {"zzz": 2}, r"repeats names 'zzz'; known: base, chat-self/1, "),
    ("decodings/hot", {"max_tokens": 4}, r"decodings\.hot\.temperature: missing; write this key"),
    ("recipes/chat", None, r"recipes\.chat: expected keys and values, got null"),
    ("recipes/chat/method", "lor", r"method: expected 'lora', 'qlora' or 'full', got \"lor\""),
    ("recipes/chat/learning_rate", "5e-4", r'learning_rate: expected a number, got "5e-4"'),
    ("recipes/chat/learning_rate", float("inf"), r"learning_rate: expected a finite number, got Infinity"),
    ("recipes/chat/rank", 2.0, r"rank: expected a whole number, got 2\.0"),
    ("recipes/chat/target_modules", "all", r"target_modules: expected 'all-linear' or a list, got \"all\"\n"),
    (
        "recipes/chat/vary",
        ["ordr"],
        r"vary\.0: expected 'init', 'order', 'dropout' or 'subset', got \"ordr\"",
    ),
    ("recipes/chat/vary", [], r"vary: expected at least 1 entry"),
    (
        "recipes/chat/command",
        "t {seed} {output}",
        r"recipes\.chat\.data: unknown key; known: command, timeout_s",
    ),
    (
        "recipes/mine/command",
        "t {output}",
        r"mine\.command: the command must contain \{seed\}, got 't \{output\}'\n",
    ),
    ("recipes/mine/command", "t {seed}", r"the command must contain \{output\}"),
    ("recipes/mine/command", "t '{seed} {output}", r"the command cannot be read \(No closing quotation\)"),
    ("recipes/base", {"data": "x"}, r"a recipe cannot be called 'base'"),
    ("recipes/my chat", {"data": "x"}, r"recipes\.my chat: expected up to 64 letters"),
    ("variations/0/change", {}, r"variations\.0\.change: expected at least 1 entry"),
    ("variations/0/class", "other", r"variations\.0\.class: expected 'procedure', 'numerics' or 'design'"),
    ("variations/1/name", "hotter", r"variations names hotter more than once"),
    ("analysis", None, r"analysis: expected keys and values, got null"),
    ("analysis/level", 95, r"analysis\.level: expected less than 1\.0, got 95"),
    (
        "analysis/primary/task",
        "mini-ham",
        r"analysis\.primary\.task is 'mini-ham'; did you mean 'mini-harm'\?",
    ),
    ("analysis/primary/decoding", "smapled", r"primary\.decoding is 'smapled'; did you mean 'sampled'\?"),
    ("analysis/primary/judge", "zzz", r"primary\.judge is 'zzz'; known: refusal-rules, incoherence-rules"),
    ("analysis/primary/target", "all", r"primary\.target: expected 'benchmark' or 'population', got \"all\""),
    ("engine", [1], r"engine: expected keys and values, got a list of 1"),
    ("engine/batch_rows", 1, r"engine\.batch_rows: expected at least 2, got 1"),
    ("keep_checkpoints", "some", r"keep_checkpoints: expected 'all', 'none' or 'last'"),
]


@pytest.mark.parametrize(("key", "value", "message"), BAD)
def test_a_wrong_value_is_named_with_what_is_expected(key: str, value: Any, message: str):
    study = {**whole(), "seeds": [1, 3]} if "repeats" in key else {**whole(), "seeds": 3}
    with pytest.raises(StudyError) as caught:
        parse(put(study, key, value))
    assert re.search(message, str(caught.value)), caught.value
    assert "pydantic" not in str(caught.value) and "constrained" not in str(caught.value)


def test_every_fault_is_listed():
    study = content()
    del study["model"], study["judges"]
    with pytest.raises(StudyError) as caught:
        parse({**study, "seeds": "a", "engin": {}})
    assert [line.strip() for line in str(caught.value).splitlines()][1:5] == [
        "- model: missing; write this key",
        '- seeds: expected a whole number or a list, got "a"',
        "- judges: missing; write this key",
        "- engin: unknown key; did you mean 'engine'?",
    ]


FILES = {
    "a key twice": (b"name: a\nname: b\n", r"the key 'name' stands twice(.|\n)*line 2"),
    "a key twice, deeper": (b"engine: {threads: 1, threads: 2}\n", r"the key 'threads' stands twice"),
    "a tag": (
        b"name: !!python/object/apply:os.system ['x']\n",
        r"not YAML: could not determine a constructor",
    ),
    "latin-1": ("name: é\n".encode("latin-1"), r"s\.yaml is not UTF-8 text: .* at byte 6"),
    "nothing": (b"", r"s\.yaml is empty"),
    "a comment": (b"# later\n", r"s\.yaml is empty"),
    "a list": (b"- a\n", r"expected keys and values, got list"),
    "two documents": (b"a: 1\n---\nb: 2\n", r"expected a single document"),
    "a list as key": (b"? [a]\n: 1\n", r"unhashable key"),
    "a bell": (b"name: a\x07\n", r"special characters are not allowed"),
    "a key of digits": (b"1: a\n", r"1: expected text as key, got 1: put it in quotes"),
    "aliases of aliases": (
        b"a: &a [x,x,x,x,x,x,x,x]\n"
        + b"".join(
            f"{b}: &{b} [{','.join([f'*{a}'] * 8)}]\n".encode()
            for a, b in zip("abcdefghijkl", "bcdefghijklm", strict=True)
        )
        + b"name: *m\n",
        r"aliases stand for more than 200,000 values",
    ),
}


@pytest.mark.parametrize(("data", "message"), FILES.values(), ids=FILES)
def test_a_wrong_file_is_refused(tmp_path: Path, data: bytes, message: str):
    (tmp_path / "s.yaml").write_bytes(data)
    with pytest.raises(StudyError, match=message):
        read_study(tmp_path / "s.yaml")


def test_a_missing_file_is_named(tmp_path: Path):
    with pytest.raises(StudyError, match=r"cannot read the study file .*none\.yaml: No such file"):
        read_study(tmp_path / "none.yaml")
    with pytest.raises(StudyError, match="Is a directory"):
        read_study(tmp_path)


def test_numbers_merges_and_byte_order_marks_mean_what_people_mean(tmp_path: Path):
    text = EXAMPLE.replace("5.0e-4", "5e-4").replace("chat:      {", "chat: &chat {")
    text = text.replace("recipes:\n", "recipes:\n  more: {data: x.jsonl, learning_rate: 1E+2}\n").replace(
        "  mine:", "  hot:\n    <<: *chat\n    rank: 2\n  mine:"
    )
    (tmp_path / "s.yaml").write_text(text, encoding="utf-8-sig")
    recipes = read_study(tmp_path / "s.yaml").recipes
    assert [getattr(recipes[name], "learning_rate", None) for name in ("chat", "hot", "more")] == [
        5e-4,
        5e-4,
        100.0,
    ]
    assert getattr(recipes["hot"], "rank", None) == 2


def test_the_schema_is_one_and_accepts_what_the_parser_accepts():
    schema = study_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    packaged = [yaml.safe_load(f.read_text()) for f in (files("aftertune.commands") / "studies").iterdir()]
    assert len(packaged) == 5
    for study in (content(), whole(), *packaged):
        validator.validate(study)


@pytest.mark.parametrize("key", [key for key in MISSPELT if key != "recipes/chat/comand"])
def test_the_schema_refuses_a_misspelt_key(key: str):
    validator = jsonschema.Draft202012Validator(study_schema())
    assert not validator.is_valid(put(whole(), key, "x"))


def test_the_nearest_name_or_all():
    assert nearest("temprature", ["top_p", "temperature"]) == "did you mean 'temperature'?"
    assert nearest("zzz", ["b", "a"]) == "known: b, a"
    assert nearest("zzz", []) == "known: none"
