"""Encode images into packed codes: `python pipelines/encode.py CHECKPOINT SOURCE --out DIR`, as `crh encode` does."""

from modeling_crh.cli import encode, run

if __name__ == "__main__":
    run(encode)
