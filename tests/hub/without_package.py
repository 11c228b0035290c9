"""Loads models from the Hub where `modeling_crh` cannot be imported; run by models.py with `-I -S`.

Standard input is JSON: `site_packages`, `folder`, `cases` of `repo` and `inputs`. The last line of standard output is
JSON too: for every case what each way of loading gave.
"""

import contextlib
import importlib.util
import io
import json
import re
import sys
from pathlib import Path


def main() -> None:
    asked = json.load(sys.stdin)
    sys.path.append(asked["site_packages"])
    assert importlib.util.find_spec("modeling_crh") is None
    from transformers import AutoModel

    answers = []
    for case in asked["cases"]:
        repo, saved = case["repo"], str(Path(asked["folder"], case["repo"].replace("/", "-")))
        load(repo, case).save_pretrained(saved)
        load(saved, case).save_pretrained(f"{saved}-again")
        load(repo, case).push_to_hub(f"{repo}-again")
        AutoModel.from_pretrained(repo, trust_remote_code=True).save_pretrained(f"{saved}-model")
        answer = {"untrusted": untrusted(repo), "example": run_example(repo)}
        answer["codes"] = {name: codes(name, case) for name in (repo, saved, f"{saved}-again", f"{repo}-again")}
        answer["files of the model alone"] = sorted(path.name for path in Path(f"{saved}-model").iterdir())
        answers.append(answer)
    assert "modeling_crh" not in sys.modules
    print("\n" + json.dumps(answers))  # after the question whether to trust


def codes(source: str, case: dict) -> list[str]:
    import torch
    from transformers import AutoModel, pipeline

    model = AutoModel.from_pretrained(source, trust_remote_code=True)
    if case["kind"] == "features":
        return [hex_of(row) for row in model.encode(features=torch.tensor(case["inputs"]))]
    for settings in ({}, {"task": "crh-hashing"}):
        hashing = pipeline(**settings, model=source, trust_remote_code=True)
        given = [result["code"] for result in hashing(case["inputs"], code_format="hex")]
        assert given == [hex_of(model.encode(**hashing.preprocess(item))[0]) for item in case["inputs"]]
    return given


def load(source: str, case: dict):
    from transformers import AutoModel, pipeline

    if case["kind"] == "features":
        return AutoModel.from_pretrained(source, trust_remote_code=True)
    return pipeline(model=source, trust_remote_code=True)


def hex_of(code) -> str:
    return f"{int(''.join('1' if bit > 0 else '0' for bit in code.tolist()), 2):0{len(code) // 4}x}"


def untrusted(repo: str) -> str:
    from transformers import AutoModel

    try:
        AutoModel.from_pretrained(repo)
    except ValueError as error:
        return str(error)
    return ""


def run_example(repo: str) -> str:
    from huggingface_hub import ModelCard

    (example,) = re.findall(r"```python\n(.*?)```", ModelCard.load(repo).text, re.DOTALL)
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(example, {})
    return printed.getvalue()


if __name__ == "__main__":
    main()
