import pytest

from eb_dagster.errors import InputError
from eb_dagster.tables.encodings import find_encoding, spoken

WESTERN = [
    "Zoë",
    "José",
    "Peña",
    "Søren",
    "Hélène",
    "Ångström",
    "Müller",
    "François",
    "João Conceição",
    "Åsa",
    "Loïc",
    "Núñez",
    "Begoña",
    "Håkan",
    "Bjørn",
    "Renée",
    "Noël",
    "Gisèle",
    "Côté",
    "Magalhães",
    "Kjær",
    "Guðrún",
    "Þór",
    "Nicolò",
    "Forlì",
    "Molière",
    "Genève",
    "Anaïs",
    "Straße",
    "Ørsted",
    "Simões",
    "Citroën",
    "Brontë",
    "Café “x” – y",
    "O’Brien",
    "McDonald’s",
    "JOSÉ",
    "Tromsø",
    "Saint-Étienne",
    "L’Oréal",
    "100 m²",
    "Gonçalves",
    "Jürgen",
    "Väinö",
    "Göteborg",
]
NAMES = {
    "cp1252": WESTERN,
    "cp1250": ["Dvořák", "Jiří Černý", "Růžička", "Paweł", "Łucja Żak", "Wiśniewski", "Erdős", "Szűcs", "Brăila", "Kovačević"],
    "iso8859_2": ["Paweł", "Świt", "Tomáš", "Šimek", "Żak"],
    "cp1251": ["Анна Каренина", "Борис Годунов", "Мария", "Львів", "ООО Ромашка"],
    "koi8_r": ["Анна Каренина", "Борис Годунов", "Иванов", "Москва"],
    "cp866": ["Анна Каренина", "Борис Годунов", "Иванов"],
    "cp1253": ["Γιώργος Παπαδόπουλος", "Ελένη", "Αθήνα", "Νίκος"],
    "cp1254": ["Ayşe", "Gülşah", "Çağla", "İbrahim", "Yıldız", "Işık"],
    "cp1256": ["محمد علي", "فاطمة", "القاهرة"],
    "cp1257": ["Jānis Bērziņš", "Žemaitė", "Jūratė"],
    "cp932": ["山田太郎", "株式会社トヨタ", "鈴木 一郎", "さくら"],
    "shift_jis": ["田中", "有限会社スズキ", "高橋"],
    "euc_jp": ["山田太郎", "株式会社トヨタ", "鈴木 一郎", "さくら"],
    "iso2022_jp": ["山田太郎", "株式会社"],
    "gbk": ["王小明", "北京公司", "李娜", "张伟", "刘洋", "陈静", "上海科技有限公司"],
    "big5": ["王小明", "台北公司", "李娜", "陳大文"],
    "mac_roman": ["Zoë", "José", "Peña", "Hélène", "Müller", "García"],
    "cp850": ["Zoë", "José", "Peña", "Müller"],
}  # fmt: skip


def written(path, names, encoding, line_end="\n"):
    lines = ["email,name", *(f"ada@firm.example,{name}" for name in names), ""]
    path.write_bytes(line_end.join(lines).encode(encoding))
    return path


@pytest.mark.parametrize("encoding", NAMES)
@pytest.mark.parametrize("times", [1, 20])
def test_a_list_of_names_is_read_in_its_own_encoding(tmp_path, encoding, times):
    path = written(tmp_path / "leads.csv", NAMES[encoding] * times, encoding)
    assert path.read_bytes().decode(find_encoding(path)) == path.read_bytes().decode(encoding)


@pytest.mark.parametrize("name", WESTERN)
def test_one_name_of_western_europe_is_enough_for_windows_1252(tmp_path, name):
    path = written(tmp_path / "leads.csv", [name], "cp1252")
    assert name in path.read_bytes().decode(find_encoding(path))


ALONE = (
    "cp1252",
    "cp1250",
    "iso8859_2",
    "cp1251",
    "koi8_r",
    "cp1253",
    "cp1254",
    "cp932",
    "euc_jp",
    "gbk",
    "big5",
)


@pytest.mark.parametrize(
    ("encoding", "name"), [(encoding, name) for encoding in ALONE for name in NAMES[encoding]]
)
def test_one_name_alone_is_read_right_or_refused_with_the_option(tmp_path, encoding, name):
    path = written(tmp_path / "leads.csv", [name], encoding)
    try:
        told = path.read_bytes().decode(find_encoding(path))
    except InputError as refused:
        told = f"{name}: {refused}" if "--encoding" in str(refused) else ""
    assert name in told


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
@pytest.mark.parametrize("names", [["Ada"], ["Анна Каренина"], ["山田太郎 株式会社"]])
def test_unicode_without_a_mark_is_told_by_its_separators(tmp_path, encoding, names):
    assert find_encoding(written(tmp_path / "leads.csv", names, encoding)) == encoding


def test_letters_of_an_old_mac_are_told_by_its_line_ends(tmp_path):
    path = written(tmp_path / "leads.csv", ["López", "Peña"], "mac_roman", line_end="\r")
    assert find_encoding(path) == "mac_roman"


@pytest.mark.parametrize("nul", [b"A\0da", b"A\0\0da", b"\0Ada"])
def test_a_nul_does_not_make_it_utf_16(tmp_path, nul):
    path = tmp_path / "leads.csv"
    path.write_bytes(b"email,name\nada@firm.example," + nul + b"\n")
    assert find_encoding(path) == "utf-8"


@pytest.mark.parametrize(
    "start", [b"PK\x03\x04", b"%PDF-1.7\n", b"\x1f\x8b\x08\0", b"PAR1", b"SQLite format 3\0"]
)
def test_what_is_no_text_is_told_whatever_its_name(tmp_path, start):
    path = tmp_path / "leads.csv"
    path.write_bytes(start + b"\x01\x00email,name\n")
    with pytest.raises(InputError, match="not a text file"):
        find_encoding(path)


def test_a_file_joined_from_two_is_refused(tmp_path):
    path = tmp_path / "leads.csv"
    path.write_bytes("email,name\na@b.example,Zoë\n".encode() + "c@d.example,José\n".encode("cp1252"))
    with pytest.raises(InputError, match="joined from two files"):
        find_encoding(path)


def test_bytes_in_which_no_words_are_found_are_refused(tmp_path):
    path = tmp_path / "leads.csv"
    path.write_bytes(b"name\na\x81\x8db\x9d\xa4\xffc\n")
    with pytest.raises(InputError, match="--encoding"):
        find_encoding(path)


def test_encodings_are_called_what_people_call_them():
    assert [spoken(encoding) for encoding in ("cp1252", "cp932", "cp850")] == [
        "Windows-1252",
        "Shift JIS (Japanese)",
        "cp850",
    ]
