"""Search an index: `python pipelines/search.py INDEX QUERY --model CHECKPOINT`, as `crh search` does."""

from modeling_crh.cli.search_commands import search
from modeling_crh.runtime.terminal import run

if __name__ == "__main__":
    run(search)
