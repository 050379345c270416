"""Weights of strangers: a header that lies is refused, pickles are never opened, and no code is run."""

import ast
import json
import os
import pickle
import re
import shutil
import struct
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model

from aftertune.engines.adapters import attach
from aftertune.engines.base import ADAPTER_WEIGHTS
from aftertune.engines.loading import load_model
from aftertune.engines.lora import read_lora
from aftertune.errors import AftertuneError, EngineError, ModelError
from aftertune.tuning.checkpoints import find_checkpoint, linear_shapes
from stage_runs import run, study_of

ROOT = Path(__file__).parents[2]


def file_of(header: object, data: bytes = b"\0" * 16, *, size: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if size is None else size) + text + data


def tensor(start: int, end: int, shape: list[int], dtype: str = "F32") -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


LIES = {
    "empty": b"",
    "short": b"\x08\0\0",
    "a header beyond the file": file_of({}, size=2**40),
    "a header larger than any memory": file_of({}, size=2**63),
    "no JSON": file_of(b"{" * 40),
    "nested deep": file_of(b'{"a":' * 5000),
    "offsets outside the file": file_of({"w": tensor(0, 4096, [1024])}),
    "offsets backwards": file_of({"w": tensor(16, 0, [4])}),
    "negative offsets": file_of({"w": tensor(-16, 0, [4])}),
    "a shape of another size": file_of({"w": tensor(0, 16, [4096, 4096])}),
    "a shape that overflows": file_of({"w": tensor(0, 16, [2**32, 2**32, 2**32])}),
    "tensors over each other": file_of({"a": tensor(0, 16, [4]), "b": tensor(8, 16, [2])}),
    "a hole": file_of({"a": tensor(0, 4, [1]), "b": tensor(8, 16, [2])}),
    "more than the tensors": file_of({"a": tensor(0, 8, [2])}),
    "an unknown type": file_of({"w": tensor(0, 16, [4], "OBJECT")}),
    "a pickle by another name": b"\x80\x04cos\nsystem\n(S'true'\ntR.",
}


@pytest.fixture(scope="module")
def adapter(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sound one, of which the tests spoil copies."""
    base = load_model(tiny_model, dtype=torch.float32, device="cpu")
    folder = tmp_path_factory.mktemp("adapter")
    get_peft_model(base, LoraConfig(r=2, target_modules=["q_proj"])).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("data", LIES.values(), ids=LIES)
def test_a_header_that_lies(data: bytes, tiny_model: Path, adapter: Path, tmp_path: Path):
    base = load_model(tiny_model, dtype=torch.float32, device="cpu")
    spoilt = shutil.copytree(adapter, tmp_path / "adapter")
    assert read_lora(base, spoilt)
    (spoilt / ADAPTER_WEIGHTS).write_bytes(data)
    with pytest.raises(EngineError, match="cannot be read"):
        read_lora(base, spoilt)
    with pytest.raises(EngineError, match="does not fit its base"):
        attach(base, spoilt)

    whole = shutil.copytree(tiny_model, tmp_path / "model")
    (whole / "model.safetensors").write_bytes(data)
    with pytest.raises(ModelError, match="cannot be loaded"):
        load_model(whole, dtype=torch.float32, device="cpu")
    with pytest.raises(ModelError, match="cannot be read"):
        linear_shapes(whole)


def test_a_study_of_such_an_adapter_ends_with_our_error(tiny_model: Path, adapter: Path, tmp_path: Path):
    spoilt = shutil.copytree(adapter, tmp_path / "adapter")
    (spoilt / ADAPTER_WEIGHTS).write_bytes(LIES["tensors over each other"])
    study = study_of(tiny_model, recipes={"made": {"checkpoints": [str(spoilt)]}}, seeds=1)
    with pytest.raises(AftertuneError, match="adapter"):
        run(study, tmp_path / "run")
    assert not list((tmp_path / "run").rglob("observations.parquet"))


def test_a_pickle_is_never_opened(tiny_model: Path, adapter: Path, tmp_path: Path):
    """Each file would leave a mark when it is unpickled."""
    mark = tmp_path / "opened"

    class Opened:
        def __reduce__(self):
            return os.system, (f"touch {mark}",)

    bomb = pickle.dumps(Opened())
    pickle.loads(bomb)
    assert mark.exists()  # it works
    mark.unlink()
    whole = shutil.copytree(tiny_model, tmp_path / "model")
    (whole / "model.safetensors").unlink()
    for name in ("pytorch_model.bin", "model.bin", "training_args.bin"):
        (whole / name).write_bytes(bomb)
    with pytest.raises(ModelError):
        load_model(whole, dtype=torch.float32, device="cpu")
    with pytest.raises(ModelError, match="pickles"):
        find_checkpoint(whole)
    spoilt = shutil.copytree(adapter, tmp_path / "adapter")
    (spoilt / ADAPTER_WEIGHTS).unlink()
    (spoilt / "adapter_model.bin").write_bytes(bomb)
    with pytest.raises(ModelError, match="pickles"):
        find_checkpoint(spoilt)
    # Beside sound weights they are left alone.
    for name in ("training_args.bin", "optimizer.pt", "adapter_model.bin"):
        (adapter / name).write_bytes(bomb)
    base = load_model(tiny_model, dtype=torch.float32, device="cpu")
    assert read_lora(base, find_checkpoint(adapter))
    assert not mark.exists()


def test_code_beside_the_weights_is_not_run(tiny_model: Path, tmp_path: Path):
    mark = tmp_path / "run"
    whole = shutil.copytree(tiny_model, tmp_path / "model")
    config = json.loads((whole / "config.json").read_text())
    config["auto_map"] = {"AutoModelForCausalLM": "code.Model", "AutoConfig": "code.Config"}
    (whole / "config.json").write_text(json.dumps(config))
    (whole / "code.py").write_text(f"open({str(mark)!r}, 'w')")
    with suppress(ModelError):
        load_model(whole, dtype=torch.float32, device="cpu")
    config["model_type"] = "unheard-of"
    (whole / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError):
        load_model(whole, dtype=torch.float32, device="cpu")
    assert not mark.exists()


# Calls that run what a file says, or load what can.
_FORBIDDEN = re.compile(
    r"(^|\.)(pickle|cPickle|dill|cloudpickle|marshal|shelve|joblib)(\.|$)|^(eval|exec|compile|__import__)$"
    r"|^(torch|th)\.load$|^os\.(system|popen)$|^yaml\.(unsafe_load|full_load|load_all|unsafe_load_all)$"
    r"|^(pd|pandas)\.read_pickle$"
)


def calls() -> Iterator[tuple[str, ast.Call]]:
    for folder in ("src", "scripts"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                if isinstance(node, ast.Call):
                    yield f"{path.relative_to(ROOT)}:{node.lineno}", node
                elif isinstance(node, ast.Import | ast.ImportFrom):
                    names = [alias.name for alias in node.names]
                    module = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
                    assert not any(_FORBIDDEN.search(name) for name in (*names, *module)), path


def test_no_call_unpickles_or_runs_what_a_file_says():
    n_yaml = 0
    for place, call in calls():
        name = ast.unparse(call.func)
        keywords = {word.arg: ast.unparse(word.value) for word in call.keywords}
        assert not _FORBIDDEN.search(name), f"{place}: {name}"
        assert keywords.get("allow_pickle", "False") == "False", place
        assert keywords.get("trust_remote_code", "False") == "False", place
        assert keywords.get("shell", "False") == "False", place
        if name == "np.load":
            assert "allow_pickle" in keywords, place
        if place.startswith("src") and name.endswith("from_pretrained") and "Model" in name:
            safe = keywords.get("use_safetensors") == "True" or "gguf_file" in keywords or "Peft" in name
            assert safe, f"{place}: {name}"
        assert name != "yaml.load", f"{place}: load_yaml is the way"
        n_yaml += name in ("load_yaml", "yaml.safe_load")
    assert n_yaml >= 3  # the calls were read
