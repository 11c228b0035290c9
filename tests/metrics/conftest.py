"""Small random retrieval cases, and the slow way to every order of the ties."""

from collections.abc import Callable, Iterator
from itertools import groupby, permutations, product
from operator import itemgetter

import pytest
import torch
from torch import Tensor

from modeling_crh.losses import NO_LABEL
from modeling_crh.metrics import counting

Case = tuple[Tensor, Tensor, Tensor, Tensor]


@pytest.fixture(scope="module", params=["numba", "numpy"])
def either_ranking(request: pytest.FixtureRequest) -> Iterator[None]:
    """Rank with Numba, then as where it is not installed."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "numba":
            pytest.importorskip("numba")
        else:
            patch.setattr(counting, "find_spec", lambda name: None)
        yield


@pytest.fixture(scope="session")
def random_case() -> Callable[..., Case]:
    """Give query codes, database codes, query labels and database labels, drawn from a seed; some have no label."""

    def draw(seed, queries=7, items=40, bits=5, labels=3, multi=False, unlabelled=0.0) -> Case:
        generator = torch.Generator().manual_seed(seed)
        codes = [torch.randint(2, (size, bits), generator=generator) * 2 - 1 for size in (queries, items)]
        shape = (labels,) if multi else ()
        high = 2 if multi else labels
        drawn = [torch.randint(high, (size, *shape), generator=generator) for size in (queries, items)]
        for part in drawn:
            part[torch.rand(len(part), generator=generator) < unlabelled] = 0 if multi else NO_LABEL
        return codes[0].to(torch.int8), codes[1].to(torch.int8), drawn[0], drawn[1]

    return draw


@pytest.fixture(scope="session")
def relevant_to() -> Callable[[Tensor, Tensor], Tensor]:
    """Give which of some items are relevant to one query, by its label and theirs: `(N,)` bool."""

    def find(query: Tensor, items: Tensor) -> Tensor:
        if query.ndim:
            return (query.long() @ items.long().T) > 0
        return (query == items) & (items != NO_LABEL)

    return find


@pytest.fixture(scope="session")
def tied_orders(relevant_to: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Case, int], Iterator[list[bool]]]:
    """Give, for one query, the relevance of the ranking under every order of the items at equal distance."""

    def orders(case: Case, query: int) -> Iterator[list[bool]]:
        query_codes, database_codes, query_labels, database_labels = case
        distance = (query_codes[query] != database_codes).sum(dim=1).tolist()
        relevant = relevant_to(query_labels[query], database_labels).tolist()
        ranked = sorted(zip(distance, relevant, strict=True))
        groups = [[hit for _, hit in group] for _, group in groupby(ranked, key=itemgetter(0))]
        for order in product(*(permutations(group) for group in groups)):
            yield [hit for group in order for hit in group]

    return orders
