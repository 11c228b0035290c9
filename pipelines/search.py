"""Search an index: `python pipelines/search.py INDEX QUERY --model CHECKPOINT`, as `crh search` does."""

from modeling_crh.cli import run, search

if __name__ == "__main__":
    run(search)
