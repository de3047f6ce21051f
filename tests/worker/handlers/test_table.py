import gzip
import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from worker.handlers.contract import Refusal, Task, TooLarge, Unreadable, Unsupported
from worker.handlers.table import TableHandler


def summarise(folder: Path, content: bytes | str, name: str = "t.csv", **options: Any) -> dict[str, Any]:
    source = folder / "input"
    source.write_bytes(content.encode() if isinstance(content, str) else content)
    task = Task(name, source, folder, {f"table.{key}": value for key, value in options.items()})
    answer = TableHandler().run(task)
    assert answer.outcome == "processed"
    summary: dict[str, Any] = json.loads((folder / "summary.json").read_text())
    return summary


def column(summary: dict[str, Any], name: str) -> dict[str, Any]:
    return next(c for c in summary["columns"] if c["name"] == name)


def test_a_csv_is_summed_up_by_column(tmp_path: Path) -> None:
    summary = summarise(
        tmp_path,
        "id,weight,loaded,when,place,note\n"
        "1,10.5,true,2026-01-02,Ulm,\n"
        "2,20.5,false,2026-01-01,Bonn,x\n"
        "3,NA,true,2026-03-01,Ulm,\n",
    )
    assert (summary["format"], summary["delimiter"], summary["header"], summary["rows"]) == ("CSV", ",", True, 3)
    ids = column(summary, "id")
    assert (ids["type"], ids["count"], ids["missing"], ids["distinct"]) == ("integer", 3, 0, 3)
    assert (ids["number"]["min"], ids["number"]["max"], ids["number"]["mean"]) == (1, 3, 2.0)
    assert ids["number"]["quantiles"]["p50"] == 2
    weight = column(summary, "weight")
    assert (weight["type"], weight["missing"], weight["number"]["max"]) == ("number", 1, 20.5)
    assert column(summary, "loaded")["type"] == "boolean"
    assert column(summary, "when")["time"] == {"first": "2026-01-01", "last": "2026-03-01"}
    assert column(summary, "place")["text"] == {"shortest": 3, "longest": 4}
    assert column(summary, "place")["distinct"] == 2
    assert column(summary, "note")["missing"] == 2


def test_json_lines_are_summed_up_by_key(tmp_path: Path) -> None:
    rows = [
        {"n": 1, "s": "a", "b": True, "t": "2026-05-01T10:00:00Z"},
        {"n": 2.5, "s": None, "nested": {"x": 1}},
        {"n": "two", "list": [1]},
    ]
    summary = summarise(tmp_path, "\n".join(json.dumps(row) for row in rows), "log.jsonl")
    assert (summary["format"], summary["rows"]) == ("JSON lines", 3)
    assert column(summary, "n")["type"] == "mixed"
    assert column(summary, "n")["kinds"] == {"integer": 1, "number": 1, "string": 1}
    assert (column(summary, "s")["count"], column(summary, "s")["missing"]) == (1, 2)
    assert column(summary, "t")["type"] == "datetime"
    assert column(summary, "nested")["type"] == "object"
    assert column(summary, "list")["type"] == "array"


def test_lines_that_are_not_json_objects_are_counted_and_named(tmp_path: Path) -> None:
    content = '{"a":1}\nnot json\n[1,2]\n{"a":2}\n' + "[" * 5000 + '\n\n{"a":1e999}\n'
    summary = summarise(tmp_path, content, "x.ndjson")
    assert (summary["rows"], summary["bad_rows"]["malformed"], summary["blank_lines"]) == (2, 4, 1)
    assert [p["line"] for p in summary["problems"]] == [2, 3, 5, 7]


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_the_delimiter_is_found(tmp_path: Path, delimiter: str) -> None:
    lines = [
        delimiter.join(("name", "value", "text")),
        *(delimiter.join((f"n{i}", str(i), '"a, b; c|d"')) for i in range(20)),
    ]
    summary = summarise(tmp_path, "\n".join(lines))
    assert summary["delimiter"] == delimiter
    assert len(summary["columns"]) == 3
    assert summary["ragged_rows"] == {"short": 0, "long": 0}


def test_a_first_line_may_tell_the_delimiter(tmp_path: Path) -> None:
    summary = summarise(tmp_path, "sep=;\r\na;b,c\r\n1;2\r\n3;4\r\n")
    assert (summary["delimiter"], summary["rows"], summary["lines_before_table"]) == (";", 2, 1)
    assert [c["name"] for c in summary["columns"]] == ["a", "b,c"]
    assert summarise(tmp_path, "sep=^\na^b\n1^2\n")["delimiter"] == "^"


def test_remarks_before_the_table_are_no_rows_and_a_header_may_begin_with_a_hash(tmp_path: Path) -> None:
    remarks = "# logger 7, firmware 2\n# Ulm\n"
    summary = summarise(tmp_path, remarks + "time,temp,door\n1,2,3\n4,5,6\n")
    assert (summary["rows"], summary["lines_before_table"], summary["columns"][0]["name"]) == (2, 2, "time")
    summary = summarise(tmp_path, remarks + "#time,temp,door\n1,2,3\n4,5,6\n")
    assert (summary["rows"], summary["lines_before_table"], summary["columns"][0]["name"]) == (2, 2, "#time")
    assert summarise(tmp_path, "#1\n#2\n#3\n").get("lines_before_table") is None


def test_single_quotes_quote_where_there_are_no_double_ones(tmp_path: Path) -> None:
    summary = summarise(tmp_path, "'name','n'\n" + "'a, b',1\n" * 5 + "'it''s',2\n")
    assert (summary["quote"], summary["rows"], len(summary["columns"])) == ("'", 6, 2)
    assert "quote" not in summarise(tmp_path, 'name,n\n"it\'s",1\n')


def test_quotes_may_be_escaped_and_a_cell_may_end_with_a_backslash(tmp_path: Path) -> None:
    summary = summarise(tmp_path, 'a,b\n"say \\"hi, you\\" now",1\n"x",2\n')
    assert (summary["escape"], summary["rows"], summary["ragged_rows"]["long"]) == ("\\", 2, 0)
    summary = summarise(tmp_path, 'folder,n\n"C:\\temp\\",1\n')
    assert ("escape" in summary, summary["rows"]) == (False, 1)
    assert column(summary, "folder")["text"]["longest"] == len("C:\\temp\\")


def test_blanks_between_delimiter_and_quote_are_not_part_of_the_cell(tmp_path: Path) -> None:
    summary = summarise(tmp_path, 'a, "b"\n1, "x, y"\n2, "z"\n')
    assert (summary["rows"], [c["name"] for c in summary["columns"]]) == (2, ["a", "b"])


def test_a_semicolon_file_may_have_decimal_commas(tmp_path: Path) -> None:
    summary = summarise(tmp_path, "preis;menge\n1,5;2\n2,5;4\n")
    assert column(summary, "preis")["type"] == "number"
    assert column(summary, "preis")["number"]["mean"] == 2.0


def test_ragged_rows_are_counted_and_used(tmp_path: Path) -> None:
    summary = summarise(tmp_path, "a,b,c\n1,2,3\n4,5\n6,7,8,9\n\n10,11,12\n")
    assert (summary["rows"], summary["ragged_rows"], summary["blank_lines"]) == (4, {"short": 1, "long": 1}, 1)
    assert summary["cells_not_summarised"] == 1
    assert (column(summary, "c")["count"], column(summary, "c")["missing"]) == (3, 1)


@pytest.mark.parametrize(
    ("codec", "shown"),
    [("utf-8", "utf-8"), ("utf-8-sig", "utf-8"), ("utf-16", "utf-16"), ("utf-32", "utf-32"),
     ("utf-16-le", "utf-16-le"), ("utf-16-be", "utf-16-be"), ("cp1252", "cp1252")],
)  # fmt: skip
def test_encodings_are_recognised(tmp_path: Path, codec: str, shown: str) -> None:
    text = "Größe,Ort\r\n" + "12,München\r\n" * 50
    summary = summarise(tmp_path, text.encode(codec))
    assert summary["encoding"] == shown
    assert [c["name"] for c in summary["columns"]] == ["Größe", "Ort"]
    assert summary["rows"] == 50
    assert summary["undecodable_lines"] == 0


def test_bytes_that_do_not_fit_the_encoding_are_counted(tmp_path: Path) -> None:
    content = b"a,b\n" + b"1,x\n" * 40_000 + b"2,\xff\xfe\n"
    summary = summarise(tmp_path, content)
    assert (summary["encoding"], summary["undecodable_lines"], summary["rows"]) == ("utf-8", 1, 40_001)


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
def test_every_line_ending_counts(tmp_path: Path, ending: str) -> None:
    assert summarise(tmp_path, ending.join(["a,b", "1,2", "3,4", ""]))["rows"] == 2


def test_quoted_line_breaks_stay_in_their_cell(tmp_path: Path) -> None:
    summary = summarise(tmp_path, 'a,b\n1,"x\r\ny ""z"""\n2,w\n')
    assert summary["rows"] == 2
    assert column(summary, "b")["text"]["longest"] == len('x\r\ny "z"')


def test_a_file_without_header_gets_numbered_columns(tmp_path: Path) -> None:
    summary = summarise(tmp_path, "1,2\n3,4\n")
    assert (summary["header"], summary["rows"]) == (False, 2)
    assert [c["name"] for c in summary["columns"]] == ["column_1", "column_2"]


def test_repeated_and_empty_header_cells_get_names_of_their_own(tmp_path: Path) -> None:
    summary = summarise(tmp_path, "a,a,,b\x07c\n" + "x,y,z,w\n" * 20)
    assert [c["name"] for c in summary["columns"]] == ["a", "a_2", "column_3", "bc"]


def test_labels_with_leading_zeros_stay_text(tmp_path: Path) -> None:
    summary = summarise(tmp_path, "plz,n\n01067,0\n80331,-5\n")
    assert column(summary, "plz")["kinds"] == {"integer": 1, "string": 1}
    assert column(summary, "n")["number"]["min"] == -5


def test_a_fifty_megabyte_line_is_a_bad_row_and_costs_little_memory(tmp_path: Path) -> None:
    source = tmp_path / "long.csv"
    with source.open("wb") as file:
        file.write(b"a,b\n1,2\n")
        for _ in range(50):
            file.write(b"x" * 1024 * 1024)
        file.write(b"\n3,4\n")
    tracemalloc.start()
    try:
        answer = TableHandler().run(Task("long.csv", source, tmp_path))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert answer.summary["rows"] == 2
    assert answer.summary["bad_rows"] == {"too_long": 1, "malformed": 0}
    assert peak < 12 * 1024 * 1024
    assert json.loads((tmp_path / "summary.json").read_text())["problems"] == [{"line": 3, "problem": "line too long"}]


@pytest.mark.parametrize("name", ["one.csv", "one.jsonl"])
def test_a_file_that_is_one_endless_line_is_unreadable_and_says_why(tmp_path: Path, name: str) -> None:
    with pytest.raises(Unreadable, match="line 1 is longer than 1000"):
        summarise(tmp_path, "y" * 5000, name, max_line=1000)


def test_a_line_of_exactly_the_bound_is_taken(tmp_path: Path) -> None:
    for tail in ("\n1,2\n", "\n"):
        summary = summarise(tmp_path, "a,b\n" + "1," + "5" * 8 + tail, max_line=10)
        assert summary["bad_rows"]["too_long"] == 0
    assert summarise(tmp_path, "a,b\n1,2\n1," + "5" * 9 + "\n", max_line=10)["bad_rows"]["too_long"] == 1


def test_a_quote_that_is_never_closed_loses_its_record_and_not_the_file(tmp_path: Path) -> None:
    filler = "".join(f"{n},some text here\n" for n in range(20_000))
    summary = summarise(tmp_path, 'a,b\n1,x\n2,"open\n' + filler)
    assert summary["bad_rows"]["malformed"] >= 1
    assert summary["rows"] > 10_000


def test_a_record_that_opens_one_quote_after_another_is_bounded(tmp_path: Path) -> None:
    line = "x," * 400 + '"\n' + '",'
    summary = summarise(tmp_path, "a,b\n1,2\n" + line * 200 + "\n3,4\n", max_line=2000)
    assert summary["bad_rows"]["malformed"] >= 1


def test_more_columns_than_the_bound_are_not_summed_up_but_said(tmp_path: Path) -> None:
    wide = ",".join(f"c{n}" for n in range(50)) + "\n" + ",".join("1" * 50) + "\n"
    summary = summarise(tmp_path, wide, max_columns=10)
    assert (len(summary["columns"]), summary["cells_not_summarised"]) == (10, 40)
    lines = "\n".join(json.dumps({f"k{n}": 1}) for n in range(50))
    summary = summarise(tmp_path, lines, "x.jsonl", max_columns=10)
    assert (len(summary["columns"]), summary["cells_not_summarised"]) == (10, 40)


@pytest.mark.parametrize(
    ("content", "name", "error", "words"),
    [
        (b"", "e.csv", Unreadable, "empty"),
        (b"\n\n  \n", "e.csv", Unreadable, "empty"),
        (b"\x00\x01\x02\x03" * 100, "b.csv", Unreadable, "binary"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "b.csv", Unreadable, "PNG"),
        (b"PK\x03\x04" + bytes(100), "b.csv", Unsupported, "Excel"),
        (b"\x01\x02\x03\x04abc", "b.jsonl", Unreadable, "control"),
        (b"[\n 1,\n 2\n]\n", "a.jsonl", Unreadable, "no usable row: line 1"),
    ],
)  # fmt: skip
def test_what_is_no_table_is_refused_with_the_reason(
    tmp_path: Path, content: bytes, name: str, error: type[Refusal], words: str
) -> None:
    with pytest.raises(error, match=words):
        summarise(tmp_path, content, name)


def test_a_header_alone_is_a_table_without_rows(tmp_path: Path) -> None:
    summary = summarise(tmp_path, "a,b\n")
    assert (summary["rows"], [c["type"] for c in summary["columns"]]) == (0, ["empty", "empty"])


TABLE = b"a,b\n" + b"".join(b"%d,%d\n" % (n, n % 7) for n in range(20_000))


@pytest.mark.parametrize("name", ["t.csv.gz", "T.CSV.GZ", "t.csv", "t"])
def test_a_gzip_file_is_read_whatever_its_name(tmp_path: Path, name: str) -> None:
    summary = summarise(tmp_path, gzip.compress(TABLE), name)
    assert (summary["format"], summary["rows"], column(summary, "a")["number"]["max"]) == ("CSV", 20_000, 19_999)
    assert summarise(tmp_path, gzip.compress(b'{"a":1}\n' * 3), "x.jsonl.gz")["rows"] == 3
    assert TableHandler().recognises(gzip.compress(b'{"a":1}\n' * 3))
    assert not TableHandler().recognises(gzip.compress(b"no table"))
    assert not TableHandler().recognises(b"\x1f\x8b\x08nonsense")


def test_members_one_after_another_and_padding_are_one_table(tmp_path: Path) -> None:
    whole = gzip.compress(b"a,b\n1,2\n") + gzip.compress(b"3,4\n") + bytes(100_000) + gzip.compress(b"5,6\n") + bytes(9)
    assert summarise(tmp_path, whole, "t.csv.gz")["rows"] == 3


def test_what_inflates_to_more_than_the_bound_is_refused_within_little_memory(tmp_path: Path) -> None:
    bomb = gzip.compress(bytes(range(32, 127)) * 200_000)
    assert len(bomb) < 100_000
    tracemalloc.start()
    try:
        with pytest.raises(TooLarge, match="inflates to more than 2,000,000 bytes"):
            summarise(tmp_path, bomb, "t.csv.gz", max_inflated_mb=2)
        assert tracemalloc.get_traced_memory()[1] < 16_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("end", [5, 100, -9, -1])
def test_a_gzip_file_that_breaks_off_is_refused_not_halved(tmp_path: Path, end: int) -> None:
    with pytest.raises(Unreadable, match="breaks off"):
        summarise(tmp_path, gzip.compress(TABLE)[:end], "t.csv.gz")


def test_a_damaged_gzip_file_is_refused(tmp_path: Path) -> None:
    damaged = bytearray(gzip.compress(TABLE))
    damaged[len(damaged) // 2] ^= 0x55
    with pytest.raises(Unreadable, match=r"damaged|breaks off"):
        summarise(tmp_path, bytes(damaged), "t.csv.gz")


@pytest.mark.parametrize("signature", [b"BZh9", b"\xfd7zXZ\x00", b"\x28\xb5\x2f\xfd"])
def test_other_compressions_are_named(tmp_path: Path, signature: bytes) -> None:
    with pytest.raises(Unsupported, match="compressed with"):
        summarise(tmp_path, signature + bytes(range(200)), "t.csv")


@pytest.mark.parametrize("codec", ["utf-32-le", "utf-32-be"])
def test_utf_32_without_a_mark_is_recognised(tmp_path: Path, codec: str) -> None:
    assert summarise(tmp_path, ("Größe,Ort\n" + "1,x\n" * 30).encode(codec))["encoding"] == codec


def test_the_operator_names_the_encodings_that_are_tried(tmp_path: Path) -> None:
    text = ("商品,数量\n" + "りんご,3\n" * 30).encode("shift_jis")
    summary = summarise(tmp_path, text, encodings="shift_jis, cp1252")
    assert (summary["encoding"], summary["columns"][0]["name"]) == ("shift_jis", "商品")
    assert summarise(tmp_path, "имя,место\n".encode("cp1251"), encodings="cp1251")["encoding"] == "cp1251"


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=300), cut=st.integers(0, 400), flip=st.integers(0, 400))
def test_any_gzip_gives_a_summary_or_a_refusal(tmp_path: Path, content: bytes, cut: int, flip: int) -> None:
    data = bytearray(gzip.compress(content)[: cut + 3])
    data[flip % len(data)] ^= 0x10
    try:
        summarise(tmp_path, bytes(data), "x.csv.gz", max_line=50)
    except Refusal:
        return


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=400) | st.text(max_size=200).map(str.encode), json_lines=st.booleans())
def test_any_bytes_give_a_summary_or_a_refusal(tmp_path: Path, content: bytes, json_lines: bool) -> None:
    try:
        summary = summarise(tmp_path, content, "x.jsonl" if json_lines else "x.csv", max_line=50)
    except Refusal:
        return
    assert all(c["count"] + c["missing"] == summary["rows"] for c in summary["columns"])


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(st.lists(st.integers(-1000, 1000), min_size=2, max_size=2), min_size=1, max_size=50))
def test_what_is_written_as_csv_is_counted_back(tmp_path: Path, rows: list[list[int]]) -> None:
    summary = summarise(tmp_path, "left,right\n" + "".join(f"{a},{b}\n" for a, b in rows))
    for place, name in enumerate(("left", "right")):
        values = [row[place] for row in rows]
        found = column(summary, name)
        assert (found["count"], found["number"]["min"], found["number"]["max"]) == (len(rows), min(values), max(values))
        assert found["number"]["mean"] == pytest.approx(sum(values) / len(values), abs=1e-9)
