"""Encodings of two models by four processes into one folder at a time; run by test_encode_source.py."""

import multiprocessing
import sys
import threading
from pathlib import Path

from tqdm import tqdm

from modeling_crh.data import open_source
from modeling_crh.encoding import Encoder, encode_source
from modeling_crh.encoding.shards import CodeShards


def log_what_is_written(log, name):
    """Write a line for each shard that this process writes."""
    write = CodeShards.write

    def write_and_log(self, number, *args):
        with log.open("a") as file:
            file.write(f"{name}-{number}\n")
        write(self, number, *args)

    CodeShards.write = write_and_log


def encode_until_it_is_decided(encoder, source, out, name, go, answers):
    """Encode as soon as no other run is in the folder, once all processes are there; puts how it ended."""
    tqdm.set_lock(threading.RLock())  # the usual one is shared by all children
    log_what_is_written(out.with_suffix(".log"), name)
    go.wait()
    while True:
        try:
            encode_source(encoder, open_source(source, features_column="features"), out, model_name=name, shard_size=4)
        except ValueError as error:
            if "as it was when" in str(error):
                return answers.put((name, "refused"))
            if "is in use" not in str(error):
                raise
        else:
            return answers.put((name, "done"))


if __name__ == "__main__":  # python tests/encoding/rival_encodings.py SOURCE FOLDER MODEL MODEL
    source, folder, *models = sys.argv[1:]
    encoders = {Path(model).name: Encoder.load(model, batch_size=3) for model in models}
    fork = multiprocessing.get_context("fork")
    for number in range(15):
        out, go, answers = Path(f"{folder}-{number}"), fork.Barrier(4), fork.Queue()
        for name, encoder in [*encoders.items(), *encoders.items()]:
            fork.Process(target=encode_until_it_is_decided, args=(encoder, source, out, name, go, answers)).start()
        print(out, *(answer for _, answer in sorted(answers.get(timeout=100) for _ in range(4))), flush=True)
