"""Search an index: `python pipelines/search.py INDEX QUERY --model CHECKPOINT`, as `crh search` does."""

from modeling_crh.cli import run
from modeling_crh.cli.search_commands import search

if __name__ == "__main__":
    run(search)
