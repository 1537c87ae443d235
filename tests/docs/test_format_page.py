"""The page on the on-disk format says what the code does: its tables are those of the modules."""

from __future__ import annotations

import re

import apsw
import pytest

from diskcache import files, keys
from diskcache.codecs import base, plain, plain_ext, signing
from diskcache.codecs import keys as canonical
from diskcache.codecs.names import BUILTIN_TYPES
from diskcache.engines.sqlite import control, schema
from diskcache.entry import GUARD
from tests.support.pages import fenced, sections, squeezed, table

SECTIONS = sections("docs/on-disk-format.md")


def words_of(text):
    """Return the text without marks and typography, to compare a page with a comment."""
    return squeezed(re.sub(r"[`'*\\]", "", text)).lower()


def rows(section, header):
    return table(SECTIONS[section], header)


# -- Files and database ------------------------------------------------------------------------


def test_reserved_names_are_the_files_of_the_page():
    assert {row[0].strip("`") for row in rows("Files", "name")} == files.RESERVED


def test_statements_of_the_page_are_those_of_the_schema():
    statements = [
        squeezed(part).replace("( ", "(")
        for block in fenced(SECTIONS["Database"], "sql")
        for part in block.split(";")
        if part.strip()
    ]

    upgraded = [text.replace("( ", "(") for text in schema.UPGRADED.values()]
    assert statements == [*schema.TABLES.values(), *schema.OPTIONAL.values(), *upgraded]


def test_constants_of_the_database_are_those_of_the_schema():
    values = {row[0].strip("`"): row[1] for row in rows("Database", "constant")}

    assert values["application_id"].startswith(f"0x{schema.APPLICATION_ID:08x} ")
    assert schema.APPLICATION_ID.to_bytes(4, "big").decode() in values["application_id"]
    assert values["user_version"] == str(schema.FORMAT)
    assert values["page size"] == str(schema.PAGE_SIZE)


def test_columns_of_the_page_are_those_of_the_table():
    database = apsw.Connection("")
    database.execute(schema.TABLES["Cache"])
    columns = [row[1] for row in database.execute("PRAGMA table_info(Cache)")]

    assert [row[0].strip("`") for row in rows("Table Cache", "column")] == columns


def test_modes_of_the_page_are_those_of_the_codecs():
    modes = {row[1].strip("`"): int(row[0]) for row in rows("Modes", "number") if row[1]}

    assert modes == {
        name: getattr(base, name) for name in base.__dict__ if re.fullmatch("MODE_[A-Z]+", name)
    }


def test_bit_of_guards_is_on_the_page():
    assert f"Bit {GUARD.bit_length() - 1} is set" in SECTIONS["Modes"]


# -- Control file ------------------------------------------------------------------------------


def test_words_of_the_page_are_those_of_the_control_file():
    listed = re.search(r"(?ms)^    0  .*?\n\n", control.__doc__)[0]
    comment = [words_of(line) for line in re.split(r"\n(?= {4}\d)", listed)]
    page = [" ".join(filter(None, row)) for row in rows("Control file", "word")]

    assert [words_of(row) for row in page] == comment


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("boot", control.BOOT),
        ("begin", control.BEGIN),
        ("end", control.END),
        ("count", control.COUNT),
        ("bytes", control.BYTES),
        ("hits", control.HITS),
        ("misses", control.MISSES),
        ("next expiry", control.NEXT_EXPIRY),
        ("written", control.WRITTEN),
        ("state", control.STATE),
        ("files", control.FILES),
    ],
)
def test_number_of_a_word_is_the_constant(name, number):
    assert {row[1]: row[0] for row in rows("Control file", "word")}[name] == str(number)


def test_size_of_the_control_file_is_on_the_page():
    text = SECTIONS["Control file"]

    assert f"has {control.SIZE} bytes" in text
    assert f"{control.SIZE // 8} unsigned 64-bit words" in squeezed(text)
    assert f"{control.HEADER} words of header, then {control.SLOTS} generations" in squeezed(text)
    assert f"0x{control.MAGIC:016x}" in text
    assert f"every {control.LEASE * 1000:.0f} ms" in text


# -- Keys and plain data -----------------------------------------------------------------------


def test_queue_numbers_of_the_page_are_the_constants():
    text = SECTIONS["Keys"]

    assert f"between 0 and {keys.QUEUE_END}" in squeezed(text)
    assert f"starts at {keys.QUEUE_START}" in text
    assert f"<prefix>-<{keys.QUEUE_DIGITS} digits>" in text


def test_shapes_of_the_page_are_those_of_plain_data():
    shapes = {int(row[0], 16) for row in rows("Plain data", "first byte") if "-" not in row[0]}
    comment = {int(found, 16) for found in re.findall(r"(?m)^    (0x\w\w) '", plain.__doc__)}

    assert shapes == comment == set(plain._LOADERS)


def test_extensions_of_the_page_are_those_of_plain_data():
    page = {int(row[0]): row[1] for row in rows("Plain data", "code")}
    comment = dict(re.findall(r"(?m)^ {6,7}(\d+)  (\w+)", plain.__doc__))

    assert page == {int(code): name for code, name in comment.items()}
    assert {name.lower(): code for code, name in page.items()} == {
        name.removeprefix("EXT_").lower(): value
        for name, value in vars(plain_ext).items()
        if name.startswith("EXT_")
    }


def test_payloads_of_the_page_are_those_of_the_comment():
    comment = words_of(plain.__doc__).replace("()", "")

    for code, _, payload in rows("Plain data", "code"):
        assert words_of(payload).replace("()", "") in comment, code


def test_types_of_the_page_are_those_that_decode_to_themselves():
    names = re.search(r"in module `builtins`: (.*?);", squeezed(SECTIONS["Plain data"]))[1]

    assert set(re.findall(r"`(\w+)`", names)) == set(BUILTIN_TYPES)


def test_rules_of_canonical_keys_are_those_of_the_comment():
    comment = words_of(canonical.__doc__)
    rules = re.findall(r"(?ms)^\* (.*?)(?=^\* |^$)", SECTIONS["Keys"])
    sentences = [part for rule in rules for part in re.split("[.;] |[.]$", words_of(rule)) if part]

    assert len(rules) == 7
    assert [part for part in sentences if part not in comment] == []


# -- Signatures --------------------------------------------------------------------------------


def test_offsets_of_the_envelope_are_the_constants():
    page = [row[0] for row in rows("Signed pickles", "bytes")]
    tag, end = signing._TAG_START, signing.HEADER_SIZE

    assert page == ["0", f"1-{tag - 1}", f"{tag}-{end - 1}", f"{end}-"]


def test_hashes_of_the_page_are_the_constants():
    page = {row[0]: row for row in rows("Signed pickles", "what")}
    persons = {what: row[3].strip("`").encode() for what, row in page.items()}
    sizes = {what: int(row[1]) for what, row in page.items()}

    assert persons == {
        "tag": signing._PERSON,
        "key": signing._KEY_PERSON,
        "key id": signing._ID_PERSON,
    }
    assert sizes == {"tag": signing._TAG_SIZE, "key": 32, "key id": signing._ID_SIZE}
    assert f"beyond {signing._HASH_BEYOND} bytes" in page["tag"][4]
