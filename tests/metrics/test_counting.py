import torch
from hypothesis import given
from hypothesis import strategies as st

from modeling_crh.metrics import count_by_distance


def test_three_items_at_distance_0_1_and_2_are_counted_by_hand():
    database = torch.tensor([[1, 1], [1, -1], [-1, -1]])
    counts = count_by_distance(database[:1], database, torch.tensor([0]), torch.tensor([0, 1, 0]))
    assert counts.items.tolist() == [[1, 1, 1]]
    assert counts.relevant.tolist() == [[1, 0, 1]]
    assert counts.items.dtype == counts.relevant.dtype == torch.int64
    assert counts.num_items == 3
    assert counts.num_relevant.tolist() == [2]


@given(
    seed=st.integers(0, 2**32 - 1),
    bits=st.integers(1, 9),
    multi=st.booleans(),
    leave_one_out=st.booleans(),
    unlabelled=st.sampled_from([0, 0.3, 1]),
)
def test_counts_agree_with_a_loop_over_pairs(random_case, relevant_to, seed, bits, multi, leave_one_out, unlabelled):
    case = random_case(seed, queries=4, items=12, bits=bits, multi=multi, unlabelled=unlabelled)
    queries, database, query_labels, labels = case
    if leave_one_out:
        queries, query_labels = database, labels
    items = torch.zeros(len(queries), bits + 1, dtype=torch.int64)
    relevant = torch.zeros_like(items)
    for query in range(len(queries)):
        for item in range(len(database)):
            if leave_one_out and query == item:
                continue
            distance = int((queries[query] != database[item]).sum())
            items[query, distance] += 1
            relevant[query, distance] += bool(relevant_to(query_labels[query], labels[item : item + 1]))
    counts = count_by_distance(queries, database, query_labels, labels, leave_one_out=leave_one_out)
    assert torch.equal(counts.items, items)
    assert torch.equal(counts.relevant, relevant)


def test_one_hot_rows_count_as_their_class_numbers_do(random_case):
    queries, database, query_labels, labels = random_case(2)
    single = count_by_distance(queries, database, query_labels, labels)
    eye = torch.eye(3)
    multi = count_by_distance(queries, database, eye[query_labels], eye[labels])
    assert torch.equal(single.relevant, multi.relevant)


def test_a_copy_of_the_query_stays_when_the_query_is_left_out():
    codes, labels = torch.ones(3, 4), torch.zeros(3)
    counts = count_by_distance(codes, codes, labels, labels, leave_one_out=True)
    assert counts.items.tolist() == counts.relevant.tolist() == [[2, 0, 0, 0, 0]] * 3
