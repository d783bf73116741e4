"""YAML and JSON documents, secrets, subscribers from files."""

from pathlib import Path
from typing import Any

import pytest

from thorn_stream.adapters.files import (
    Document,
    FileSubscribers,
    Secrets,
    dotted,
    located,
    read_document,
    write_yaml,
)
from thorn_stream.core.directory import parse_subscribers
from thorn_stream.core.errors import ConfigurationError

ONE = "subscribers:\n  - id: a\n    event: order.*\n    url: https://a.example.com/\n"
EXAMPLES = Path(__file__).parents[2] / "config/subscribers"


def data(tmp_path: Path, text: str, name: str = "t.yaml") -> Any:
    (tmp_path / name).write_text(text, "utf-8")
    return read_document(tmp_path / name, "t").data


def refused(tmp_path: Path, text: str, name: str = "t.yaml") -> str:
    with pytest.raises(ConfigurationError) as caught:
        data(tmp_path, text, name)
    return str(caught.value)


def source(*globs: Path | str, **environ: str) -> FileSubscribers:
    return FileSubscribers([str(one) for one in globs], Secrets(environ), parse_subscribers)


def mistakes(found: FileSubscribers, tmp_path: Path) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        found.load()
    return str(caught.value).replace(f"{tmp_path}/", "").splitlines()


# --- documents -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("NO", "NO"),
        ("on", "on"),
        ("12:30", "12:30"),
        ("2024-01-02", "2024-01-02"),
        ("010", 10),
        ("0x1F", 31),
        ("0o17", 15),
        ("-5", -5),
        ("1e3", 1000.0),
        (".5", 0.5),
        ("1.", 1.0),
        ("1_000", "1_000"),
        ("true", True),
        ("False", False),
        ("~", None),
        ("null", None),
        ("", None),
        ("''", ""),
        ("'5'", "5"),
        ("!package.module:name", "!package.module:name"),
        ("!!str 5", "5"),
        ("[a, {b: c}]", ["a", {"b": "c"}]),
    ],
)
def test_values_are_read_by_yaml_1_2(tmp_path: Path, text: str, value: object) -> None:
    """What looks like text stays text: a country, a time of day, a date."""
    read = data(tmp_path, f"key: {text}\n")["key"]
    assert read == value
    assert type(read) is type(value)


def test_special_floats(tmp_path: Path) -> None:
    """Infinities and NaN are numbers, for the settings to refuse."""
    low, high, none = data(tmp_path, "[-.inf, .INF, .nan]")
    assert low < 0 < high
    assert none != none  # noqa: PLR0124 - what tells NaN


def test_anchors_and_merges(tmp_path: Path) -> None:
    """A block may be written once; its own keys beat the merged ones."""
    text = "base: &b {x: 1, y: 2}\none:\n  <<: *b\n  y: 3\ntwo: *b\n"
    read = data(tmp_path, text)
    assert read["one"] == {"x": 1, "y": 3}
    assert read["two"] == {"x": 1, "y": 2}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a: 1\nb:\n  c: 1\n  c: 2\n", "t:4: the key c is there twice (line 3): remove one"),
        ("a: &x [*x]", "t:1: an alias refers to what it stands in"),
        ("a: !tag text", "t:1: the tag !tag means nothing here: put the text in quotes"),
        ("{1: 2, [a]: b}", "t:1: a key must be a text: put it in quotes"),
        ("a: " + "9" * 401, "t:1: the number is too long: put it in quotes if it is a text"),
        (
            "a: 1\n---\nb: 1\n",
            "t:2: is not YAML: but found another document",
        ),
        (
            "event: *.created",
            (
                "t:1: is not YAML: expected alphabetic or numeric character, but found '.'; put a "
                'text that begins with a special character in quotes, as in "*.created"'
            ),
        ),
        (
            "a:\n\tb: 1",
            (
                "t:2: is not YAML: found character '\\t' that cannot start any token; indent with "
                "spaces, not tabs"
            ),
        ),
    ],
)
def test_malformed_yaml_is_one_line_with_place(tmp_path: Path, text: str, told: str) -> None:
    """Where, why, and what is usually behind it."""
    assert refused(tmp_path, text) == told


def test_nesting_without_end_is_refused(tmp_path: Path) -> None:
    """A hostile or broken file is a mistake, not a crash."""
    assert refused(tmp_path, "[" * 5000) == "t: is nested too deeply"
    assert refused(tmp_path, "[" * 100_000, "t.json").startswith("t: is not usable JSON: nested")


def test_control_characters_are_refused_in_one_line(tmp_path: Path) -> None:
    """The library says it in several lines."""
    told = refused(tmp_path, "a: \x00")
    assert told.startswith("t: is not YAML: unacceptable character")
    assert "\n" not in told


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('{"a": 1, "a": 2}', "t: the key a is there twice: remove one"),
        ('{\n"a": }', "t:2: is not JSON: Expecting value (column 6)"),
    ],
)
def test_malformed_json(tmp_path: Path, text: str, told: str) -> None:
    """JSON files are held to the same."""
    assert refused(tmp_path, text, "t.json") == told


def test_json_may_be_indented_with_tabs(tmp_path: Path) -> None:
    """JSON is read as JSON, not as the YAML it nearly is."""
    assert data(tmp_path, '{\n\t"a": [1]\n}', "t.json") == {"a": [1]}
    assert data(tmp_path, " ", "t.json") is None


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    """A directory, and bytes that are no text."""
    with pytest.raises(ConfigurationError, match="cannot be read: is a directory"):
        read_document(tmp_path)
    (tmp_path / "t.yaml").write_bytes(b"a: 1\nb: \xff\n")
    with pytest.raises(ConfigurationError, match=r":2: is not UTF-8: save the file as UTF-8"):
        read_document(tmp_path / "t.yaml")


def test_a_byte_order_mark_is_passed_over(tmp_path: Path) -> None:
    """Some editors write one."""
    assert data(tmp_path, "\ufeffa: 1\n") == {"a": 1}


def test_lines_lead_to_keys_and_items(tmp_path: Path) -> None:
    """Every key and every item knows the line it begins in."""
    (tmp_path / "t.yaml").write_text("a:\n  - b: 1\n  - c\n")
    lines = read_document(tmp_path / "t.yaml").lines
    assert lines["a",] == 1
    assert lines["a", 0, "b"] == 2
    assert lines["a", 1] == 3


def test_located_adds_lines_where_they_are_known() -> None:
    """The longest known part of a place gives the line; what is unknown stays as it is."""
    document = Document("f", [], {(0,): 3, (0, "url"): 5})
    text = "f: subscribers[0].url: x\nf: subscribers[0].event[1]: y\nf: other: z\nelse: w"
    assert located(text, document).splitlines() == [
        "f:5: subscribers[0].url: x",
        "f:3: subscribers[0].event[1]: y",
        "f: other: z",
        "else: w",
    ]


def test_dotted() -> None:
    """As a mistake names a place."""
    assert dotted(("http", "port")) == "http.port"
    assert dotted(("subscribers", 0, "url")) == "subscribers[0].url"


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    """Text that looks like a number or a boolean comes back as text."""
    value = {"a": ["no", "5", "true", "null", "é", "~"], "b": {"c": None, "d": 1.5}}
    assert data(tmp_path, write_yaml(value)) == value


# --- secrets -------------------------------------------------------------------------------------


def test_secrets_come_from_environment_file_or_the_text(tmp_path: Path) -> None:
    """One line end at a file's end is no part of the secret."""
    (tmp_path / "s").write_text("from file\n")
    secrets = Secrets({"NAME": "from env"})
    assert secrets("env:NAME") == "from env"
    assert secrets(f"file:{tmp_path}/s") == "from file"
    assert secrets("plain") == "plain"
    assert secrets.named == {"NAME"}


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, r"cannot be read \(no such file or directory\): make it, or change file:"),
        (b"\n", "is empty: write the secret into it"),
        (b"\xff", "is not UTF-8 text"),
    ],
)
def test_a_file_without_a_secret(tmp_path: Path, content: bytes | None, told: str) -> None:
    """The file is named, and what to do."""
    if content is not None:
        (tmp_path / "s").write_bytes(content)
    with pytest.raises(ConfigurationError, match=told):
        Secrets({})(f"file:{tmp_path}/s")


def test_a_variable_that_is_not_set_or_empty() -> None:
    """An empty secret would sign nothing."""
    with pytest.raises(ConfigurationError, match="variable A is not set: set it, or change env:A"):
        Secrets({})("env:A")
    with pytest.raises(ConfigurationError, match="variable A is empty"):
        Secrets({"A": ""})("env:A")


# --- subscribers ---------------------------------------------------------------------------------


def test_every_matching_file_in_the_order_of_names(tmp_path: Path) -> None:
    """YAML and JSON, lists and Thorn's map, several globs, each file once."""
    (tmp_path / "b.yaml").write_text(ONE)
    (tmp_path / "a.json").write_text('{"user.*": ["https://j.example.com/"]}')
    (tmp_path / "c.yml").write_text("- {id: c, event: x, url: 'https://c.example.com/'}\n")
    (tmp_path / "d.yaml").write_text("# nothing yet\n")
    (tmp_path / "e.txt").write_text("no subscribers")
    (tmp_path / "dir.yaml").mkdir()
    found = source(tmp_path / "*.yaml", tmp_path / "*.y*ml", tmp_path / "*.json").load()
    assert [one.url for one in found] == [
        "https://j.example.com/",
        "https://a.example.com/",
        "https://c.example.com/",
    ]


def test_sources_name_their_files(tmp_path: Path) -> None:
    """So that an id that is there twice can name both places."""
    (tmp_path / "b.yaml").write_text(ONE)
    name, subscribers = source(tmp_path / "*.yaml").sources()[0]
    assert name == f"file:{tmp_path}/b.yaml"
    assert [one.id for one in subscribers] == ["a"]


def test_globs_that_match_nothing_are_no_mistake(tmp_path: Path) -> None:
    """A new installation has no subscribers yet."""
    assert source(tmp_path / "*.yaml", tmp_path / "no/such/*.json").load() == []


def test_a_link_that_leads_nowhere_is_told(tmp_path: Path) -> None:
    """Somebody meant a file; passed over, its subscribers would be missing without a word."""
    (tmp_path / "a.yaml").symlink_to(tmp_path / "gone.yaml")
    (tmp_path / "folder.yaml").mkdir()
    assert mistakes(source(tmp_path / "*.yaml"), tmp_path) == [
        "a.yaml: cannot be read: no such file or directory"
    ]


def test_a_file_that_is_named_must_exist(tmp_path: Path) -> None:
    """A name without a wildcard is meant."""
    assert mistakes(source(tmp_path / "gone.yaml"), tmp_path) == [
        "gone.yaml: cannot be read: no such file or directory"
    ]


def test_mistakes_of_all_files_are_told_at_once(tmp_path: Path) -> None:
    """Each with file, line and subscriber."""
    (tmp_path / "a.yaml").write_text("subscribers:\n- id: a\n  event: x\n  url: 5\n- id: b c\n")
    (tmp_path / "b.yaml").write_text("subscribers: [")
    told = mistakes(source(tmp_path / "*.yaml"), tmp_path)
    assert [line.split(": ")[:2] for line in told] == [
        ["a.yaml:4", "subscribers[0].url"],
        ["a.yaml:5", "subscribers[1].id"],
        ["a.yaml:5", "subscribers[1].event"],
        ["a.yaml:5", "subscribers[1].url"],
        ["b.yaml:1", "is not YAML"],
    ]


def test_secrets_of_subscribers_are_looked_up(tmp_path: Path) -> None:
    """In files they may be named by env: and file:; a missing one has its line."""
    (tmp_path / "a.yaml").write_text(ONE + "    hmac_secret: env:A_SECRET\n")
    found = source(tmp_path / "a.yaml", A_SECRET="s").load()
    assert found[0].hmac_secret[0].get_secret_value() == "s"
    assert mistakes(source(tmp_path / "a.yaml"), tmp_path) == [
        (
            "a.yaml:5: subscribers[0].hmac_secret: the environment variable A_SECRET is not set: "
            "set it, or change env:A_SECRET"
        )
    ]


def test_the_example_and_its_commented_forms_are_right(tmp_path: Path) -> None:
    """What a newcomer uncomments works."""
    text = (EXAMPLES / "example.yaml").read_text()
    assert source(EXAMPLES / "*.yaml").load() == []
    lines = text.splitlines()
    more = [line.removeprefix("#") for line in lines if line.startswith("#  ")]
    at = next(number for number, line in enumerate(more) if line.strip().startswith('"order'))
    (tmp_path / "list.yaml").write_text("subscribers:\n" + "\n".join(more[:at]))
    (tmp_path / "map.yaml").write_text("\n".join(more[at:]))
    environ = {"BILLING_SECRET": "n", "BILLING_SECRET_BEFORE": "o"}
    found = source(tmp_path / "*.yaml", **environ).load()
    assert len(found) == 3
    assert found[0].user == "42"
