"""Tables as they are in their file: every row knows its line, and one that doesn't add up is an error."""

import csv
import gzip
import io
import re
import unicodedata
import zlib
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from lab.errors import InputError, plural, printable
from lab.files import other_kind

SEPARATORS = ",;\t|"
NUMBER = re.compile(r"\s*[-+−]?(\d+[.,]?\d*|[.,]\d+)([eE][-+]?\d+)?\s*")


def read_table(path: Path, columns: Sequence[str], numbers: Sequence[str]) -> tuple[pd.DataFrame, str]:
    """The texts of `columns` of a file, indexed by the line of the file on which a row begins, and what separates them.

    Separated by commas, semicolons, tabs or |; quoted as in RFC 4180; gzipped or not. What stands before the header is
    skipped where it is empty, a comment (#) or Excel's `sep=;`, and so are rows of nothing. `numbers` are the columns
    that hold numbers: where several lines of one row hold some, a quote is missing. Raises InputError.
    """
    lines = list(io.StringIO(read_text(path), newline=""))  # as editors count them
    start = next((n for n, line in enumerate(lines) if not _before_header(line, columns)), 0)
    separator = max(SEPARATORS, key=lines[start].count)
    reader = csv.reader(lines[start:], delimiter=separator, skipinitialspace=True, strict=True)
    header, rows, end = [], {}, start
    try:
        for fields in reader:
            line, end = end + 1, start + reader.line_num
            if not header:
                header = [plain(name) for name in fields]
                _check_header(header, columns, path)
            elif any(field.strip() for field in fields):
                rows[line] = fields
                within = [text.replace('"', "").split(separator) for text in lines[line - 1 : end]]
                if end > line and sum(_is_row(texts, header, numbers) for texts in within) > 1:
                    end = line - 1
                    raise csv.Error("a quote makes one row of several")
    except csv.Error as error:
        what = {"unexpected end of data": "a quote is never closed"}.get(str(error), error)
        raise InputError(f"can't be read ({what})", f"{path} line {end + 1}", "close or remove the quote") from None
    return _only(columns, header, rows, path), separator


def read_text(path: Path) -> str:
    """The text of a UTF-8 file, gzipped or not, or of FILE.gz where there is no FILE. Raises InputError."""
    try:
        packed = path.with_name(f"{path.name}.gz")
        path = packed if packed.exists() and not path.exists() else path
        data = path.read_bytes()
        if data.startswith(b"\x1f\x8b"):
            data = gzip.decompress(data)
        if not data.strip():
            raise InputError("file is empty", str(path), "give it the columns long, lat, country and rows")
        if other := other_kind(data):
            raise InputError(f"is {other[0]}", str(path), other[1])
        if b"\0" in data[:4]:
            raise ValueError("it looks like UTF-16")
        return data.decode("utf-8-sig")
    except FileNotFoundError:
        raise InputError("file is missing", str(path), "put it there or name another folder with --data") from None
    except (ValueError, OSError, EOFError, zlib.error) as error:
        raise InputError(f"can't be read ({error})", str(path), "save it as a comma-separated UTF-8 text") from None


def plain(name: str) -> str:
    """The name of a column without what can't be seen."""
    seen = (sign for sign in unicodedata.normalize("NFKC", name) if unicodedata.category(sign) not in ("Cc", "Cf"))
    return "".join(seen).strip(" #").lower()


def _before_header(line: str, columns: Sequence[str]) -> bool:
    comment = line.startswith("#") and not all(column in line.lower() for column in columns)
    return comment or not line.strip(f"{SEPARATORS} \r\n") or bool(re.fullmatch(r'"?sep=.?"?', line.strip().lower()))


def _check_header(header: Sequence[str], columns: Sequence[str], path: Path) -> None:
    for column in columns:
        if header.count(column) == 1:
            continue
        found = printable(" ".join(header), 80)
        found += "" if found.isascii() else f" ({ascii(found)[1:-1]})"  # for letters that only look alike
        remedy = f"name the columns {', '.join(columns)}"
        if header.count(column) > 1:
            remedy = "keep one of them"
        elif len(header) == 1 and set(columns) <= set(re.split(r"\W+", header[0])):
            remedy = "put commas between the columns, and quotes around names that hold one"
        elif any(NUMBER.fullmatch(name) for name in header):
            remedy = f"begin the file with the line {','.join(columns)}"
        raise InputError(f"needs one column '{column}' but has '{found}'", str(path), remedy)


def _is_row(fields: Sequence[str], header: Sequence[str], numbers: Sequence[str]) -> bool:
    return len(fields) == len(header) and all(NUMBER.fullmatch(fields[header.index(name)]) for name in numbers)


def _only(columns: Sequence[str], header: Sequence[str], rows: dict[int, list[str]], path: Path) -> pd.DataFrame:
    """Those columns of the rows; a row that is too short for one of them has an empty text there."""
    places = [header.index(column) for column in columns]
    wrong = {}
    for line, fields in rows.items():
        while len(fields) > len(header) and not fields[-1].strip():
            fields.pop()
        if len(fields) > len(header) or max(places) < len(fields) < len(header):
            wrong[line] = len(fields)
        fields += [""] * (len(header) - len(fields))
    if wrong:
        line, count = next(iter(wrong.items()))
        many = f", and so in {len(wrong):,} of {len(rows):,} rows" if len(wrong) > 1 else ""
        what = f"can't be read ({plural(count, 'field')} where the header has {len(header)}{many})"
        raise InputError(what, f"{path} line {line}", "give each row a field a column, in quotes if it holds a comma")
    texts = [[fields[place].strip() for place in places] for fields in rows.values()]
    return pd.DataFrame(texts, index=list(rows), columns=list(columns), dtype=str)
