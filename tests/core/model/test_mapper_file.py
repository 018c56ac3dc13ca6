import io
import json
import re
import zipfile

import numpy as np
import pytest
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from skops import io as skops_io

from bandicoot_core.errors import CorruptPartitionError
from bandicoot_core.model.mapper_file import dump_pipeline, load_pipeline

X = np.array([[0.0, 1.0], [1.0, 3.0], [2.0, -1.0], [3.0, 0.5]])
Y = np.array([0, 0, 1, 1])


def fitted() -> Pipeline:
    return Pipeline([("scale", StandardScaler()), ("classify", LogisticRegression())]).fit(X, Y)


def test_equal_pipelines_give_equal_bytes_where_skops_alone_does_not() -> None:
    first, second = fitted(), fitted()
    assert skops_io.dumps(first) != skops_io.dumps(second)
    assert dump_pipeline(first) == dump_pipeline(second)


def test_different_pipelines_give_different_bytes() -> None:
    other = fitted()
    other[-1].coef_[0, 0] += 1e-12
    assert dump_pipeline(other) != dump_pipeline(fitted())


def test_a_pipeline_comes_back_whole() -> None:
    pipeline = fitted()
    restored = load_pipeline(dump_pipeline(pipeline))
    assert np.array_equal(restored.predict_proba(X), pipeline.predict_proba(X))
    assert dump_pipeline(restored) == dump_pipeline(pipeline)


def test_the_file_holds_no_pickles_times_or_addresses() -> None:
    with zipfile.ZipFile(io.BytesIO(dump_pipeline(fitted()))) as archive:
        assert {entry.date_time for entry in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        names = archive.namelist()
        assert names == [*[f"{i}.npy" for i in range(len(names) - 1)], "schema.json"]
        ids = [int(found) for found in re.findall(r'"__id__": (\d+)', archive.read("schema.json").decode())]
    assert set(ids) == set(range(1, max(ids) + 1))


def test_untrusted_types_are_not_loaded() -> None:
    hostile = Pipeline([("run", FunctionTransformer(np.testing.rundocs)), ("classify", DummyClassifier())])
    with pytest.raises(CorruptPartitionError, match=r"types that a mapper does not have .*it was not loaded"):
        load_pipeline(skops_io.dumps(hostile))


@pytest.mark.parametrize("content", [b"", b"not a zip archive", skops_io.dumps(fitted())[:-200]])
def test_damaged_bytes_are_refused_with_what_to_do(content: bytes) -> None:
    with pytest.raises(CorruptPartitionError, match=r"not a mapper.*materialize features_only_mapper again"):
        load_pipeline(content)


def test_an_archive_of_something_else_is_refused() -> None:
    output = io.BytesIO()
    with zipfile.ZipFile(output, "w") as archive:
        archive.writestr("schema.json", json.dumps({"protocol": 0}))
    with pytest.raises(CorruptPartitionError, match="not a mapper"):
        load_pipeline(output.getvalue())
    with pytest.raises(CorruptPartitionError, match="holds a StandardScaler, expected a Pipeline"):
        load_pipeline(skops_io.dumps(StandardScaler()))
