"""Encodings of two models by four processes into one folder at a time; run by test_encode_source.py."""

import os
import random
import sys
import threading
from pathlib import Path

import torch
from tqdm import tqdm

from modeling_crh.data import open_source
from modeling_crh.encoding import Encoder, encode_source
from modeling_crh.encoding.shards import CodeShards

ROUNDS = 15


def encode_until_it_is_decided(encoder, source, out, name):
    """Encode as soon as no other run is in the folder; gives how it ended."""
    while True:
        try:
            encode_source(encoder, open_source(source, features_column="features"), out, model_name=name, shard_size=4)
        except ValueError as error:
            if "as it was when" in str(error):
                return b"refused"
            if "is in use" not in str(error):
                raise
        else:
            return b"done"


def log_what_is_written(log, name):
    """Write a line for each shard that this process writes."""
    write = CodeShards.write

    def write_and_log(self, number, *args):
        with log.open("a") as file:
            file.write(f"{name}-{number}\n")
        write(self, number, *args)

    CodeShards.write = write_and_log


def start(encoder, source, out, name, go):
    """Encode in a child that waits until all of a round are there; gives the end that its answer comes from."""
    reading, writing = os.pipe()
    if os.fork():
        os.close(writing)
        return reading
    torch.set_num_threads(1)
    tqdm.set_lock(threading.RLock())  # the usual one is shared by all children
    log_what_is_written(out.with_suffix(".log"), name)
    os.read(go, 1)
    os.write(writing, encode_until_it_is_decided(encoder, source, out, name))
    os._exit(0)


if __name__ == "__main__":  # python tests/encoding/rival_encodings.py SOURCE FOLDER MODEL MODEL
    source, folder, *models = sys.argv[1:]
    encoders = {Path(model).name: Encoder.load(model, batch_size=3) for model in models for _ in range(2)}
    for number in range(ROUNDS):
        out, (go, begin) = Path(f"{folder}-{number}"), os.pipe()
        names = sorted([*encoders, *encoders])
        order = random.Random(number).sample(range(4), 4)
        answers = {place: start(encoders[names[place]], source, out, names[place], go) for place in order}
        os.write(begin, b"1234")
        print(out, *(os.read(answers[place], 100).decode() for place in range(4)), flush=True)
        for place in order:
            os.close(answers[place])
            os.wait()
        os.close(go), os.close(begin)
