"""Batches out of Parquet files."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from merino.simulator.server import simulator_in_thread


@pytest.fixture(scope="module")
def simulator():
    with simulator_in_thread() as server:
        yield server


def run(source, base_url: str, *arguments: str, before: str = ""):
    """`merino batch run` on a file, after what `before` does to the interpreter."""
    code = f"import sys\n{before}\nfrom merino.cli import main\nsys.exit(main())"
    return subprocess.run(
        [sys.executable, "-c", code, "batch", "run", str(source), "--json", *arguments],
        env=os.environ | {"MERINO_API_KEY": "k", "MERINO_BASE_URL": base_url},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def written(path, columns: dict[str, list]):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    parquet.write_table(pyarrow.table(columns), path, row_group_size=700)
    return path


CLASSIFY = ("--model", "plain", "--prompt", "Classify: {text}", "--in-order")


def test_rows_through_a_template(simulator, tmp_path) -> None:
    """Every row is one call, named by its column `custom_id` if there is one, across row groups and
    batches of rows."""
    count = 1500
    columns = {
        "text": [f"sheep {number}" for number in range(count)],
        "custom_id": [f"id-{number}" for number in range(count)],
        "unused": [[number] for number in range(count)],
    }
    source = written(tmp_path / "rows.parquet", columns)
    out = tmp_path / "out.jsonl"
    done = run(source, simulator.base_url, "-o", str(out), *CLASSIFY)
    assert 0 == done.returncode, done.stderr
    assert count == json.loads(done.stdout)["succeeded"]
    results = [json.loads(line) for line in out.read_text().splitlines()]
    assert columns["custom_id"] == [result["custom_id"] for result in results]
    answer = results[1100]["response"]["body"]["choices"][0]["message"]["content"]
    assert "Classify: sheep 1100" in answer


def test_numbers_and_formats(simulator, tmp_path) -> None:
    """Values come as they are, so that a template may say how numbers look."""
    source = written(tmp_path / "rows.parquet", {"price": [1.5, 2.25], "sku": [7, 8]})
    out = tmp_path / "out.jsonl"
    template = "{sku:04d} costs {price:.2f}"
    arguments = ("-o", str(out), "--model", "plain", "--prompt", template, "--in-order")
    done = run(source, simulator.base_url, *arguments)
    assert 0 == done.returncode, done.stderr
    assert "0007 costs 1.50" in out.read_text().splitlines()[0]


@pytest.mark.parametrize(
    ("columns", "template", "said"),
    [
        ({"body": ["a"]}, "{text}", "has no column 'text'; it has body"),
        ({"text": ["a", None]}, "{text}", "rows.parquet:2: column 'text' is null"),
        ({"text": ["a"], "custom_id": ["x"]}, "{text:d}", "rows.parquet:1: does not fit"),
        ({"text": ["a", "b"], "custom_id": ["x", "x"]}, "{text}", "the custom_id of line 1"),
        ({"text": ["a"]}, "{text.__class__}", "a column's plain name"),
    ],
)
def test_rows_that_do_not_fit(tmp_path, columns, template, said) -> None:
    """They are told with their row before anything is sent."""
    source = written(tmp_path / "rows.parquet", columns)
    done = run(source, "http://127.0.0.1:9/v1", "--model", "plain", "--prompt", template)
    assert 2 == done.returncode
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_not_a_parquet_file(tmp_path) -> None:
    """A file that only has the name is refused in one line."""
    pytest.importorskip("pyarrow")
    source = tmp_path / "rows.parquet"
    source.write_text("text\nhi\n")
    done = run(source, "http://127.0.0.1:9/v1", *CLASSIFY)
    assert 2 == done.returncode
    assert "is not Parquet" in done.stderr
    assert 1 == len(done.stderr.strip().splitlines())


def test_without_the_extra(tmp_path) -> None:
    """Without pyarrow one line says what to install."""
    source = tmp_path / "rows.parquet"
    source.write_bytes(b"PAR1")
    done = run(source, "http://127.0.0.1:9/v1", *CLASSIFY, before="sys.modules['pyarrow'] = None")
    assert 2 == done.returncode
    assert 1 == len(done.stderr.strip().splitlines())
    assert 'pip install "merino[parquet]"' in done.stderr
