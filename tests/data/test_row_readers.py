import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset

from modeling_crh.data.row_readers import CsvRows, DatasetRows, ParquetRows, StreamRows

COLUMNS = {"text": [f"text {row}" for row in range(200)], "number": list(range(200)), "other": [0.5] * 200}


def dataset_rows(folder):
    return DatasetRows(Dataset.from_dict(COLUMNS))


def parquet_rows(folder):
    pq.write_table(pa.table(COLUMNS), folder / "rows.parquet", row_group_size=70)
    return ParquetRows(folder / "rows.parquet")


def csv_rows(folder):
    Dataset.from_dict(COLUMNS).to_csv(folder / "rows.csv")
    return CsvRows(folder / "rows.csv")


def stream_rows(folder):
    return StreamRows(Dataset.from_dict(COLUMNS).to_iterable_dataset(num_shards=3))


@pytest.mark.parametrize("make", [dataset_rows, parquet_rows, csv_rows, stream_rows])
@pytest.mark.parametrize(
    ("start", "stop"), [(0, None), (0, 200), (69, 71), (70, 140), (100, 300), (64, 64), (200, None)]
)
def test_any_stretch_of_rows_is_read(make, start, stop, tmp_path):
    tables = list(make(tmp_path).only(["text"], "number").tables(start, stop))
    assert [row for table in tables for row in table["number"].to_pylist()] == COLUMNS["number"][start:stop]
    assert [row for table in tables for row in table["text"].to_pylist()] == COLUMNS["text"][start:stop]
    assert all(0 < len(table) <= 64 for table in tables)


@pytest.mark.parametrize(
    ("make", "num_rows"), [(dataset_rows, 200), (parquet_rows, 200), (csv_rows, None), (stream_rows, None)]
)
def test_the_number_of_rows_is_known_where_it_costs_nothing(make, num_rows, tmp_path):
    assert make(tmp_path).num_rows == num_rows


@pytest.mark.parametrize("make", [dataset_rows, parquet_rows, csv_rows])
def test_columns_that_nobody_needs_are_not_read(make, tmp_path):
    (table, *_) = make(tmp_path).only(["text"], None).tables(0)
    assert table.column_names == ["text"]


def test_csv_columns_are_text_but_for_the_ids(tmp_path):
    reader = csv_rows(tmp_path)
    assert [str(field.type) for field in reader.schema] == ["string", "int64", "double"]
    (table, *_) = reader.only(["text", "other"], "number").tables(7)
    assert table.to_pylist()[0] == {"text": "text 7", "other": "0.5", "number": 7}
