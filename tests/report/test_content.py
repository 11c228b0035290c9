def test_hits_are_the_relevant_neighbours(make_content):
    assert [result.hits for result in make_content().results] == [2, 1]
