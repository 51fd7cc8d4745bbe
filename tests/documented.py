"""Reads the commands and the Python examples of README.md, CONTRIBUTING.md and docs/*.md."""

import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from string import Template

REPOSITORY = Path(__file__).parents[1]
PAGES = ("README.md", "CONTRIBUTING.md", *sorted(f"docs/{path.name}" for path in (REPOSITORY / "docs").glob("*.md")))
PROGRAMS = {
    ".venv/bin/pre-commit", "make", "mesm-data", "mesm-train", "mv", "pip", "python", "ray", "source", "srun", "tar",
    "torchrun",
}  # fmt: skip
ASSIGNMENT = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)=(.*)", re.DOTALL)
COMMENT = re.compile(r"(^|\s)#.*")


@dataclass(frozen=True)
class Command:
    """A command of a page.

    Attributes:
        page: The page, relative to the repository.
        line: Its first line there, from 1.
        text: As it stands on the page, in one line, without its comment.
        words: As the shell splits it, the page's variables replaced, without assignments before the program.
        environment: These assignments.
    """

    page: str
    line: int
    text: str
    words: tuple[str, ...]
    environment: Mapping[str, str]

    def __str__(self) -> str:
        return f"{self.page}:{self.line}: {self.text}"


def commands(page: str) -> list[Command]:
    """The commands in the blocks of a page, in their order."""
    variables: dict[str, str] = {}
    calls = []
    for first, block in shell_blocks(page):
        for number, line in _joined_lines(block):
            command = _command(page, first + number, COMMENT.sub("", line), variables)
            if not command.words or command.words[0] == "export":
                variables |= command.environment
            else:
                calls.append(command)
    return calls


def inline_commands(page: str) -> list[Command]:
    """The commands between backquotes in the sentences and tables of a page. They may lack arguments."""
    text = re.sub(r"^ *```.*?^ *```$", _blank, _read(page), flags=re.MULTILINE | re.DOTALL)
    calls = []
    for match in re.finditer(r"`([^`]+)`", text):
        code = " ".join(match[1].split())
        if re.sub(r"^(\w+=\S* )*", "", code).split(" ")[0] in PROGRAMS:
            calls.append(_command(page, _line(text, match.start()), code, {}))
    return calls


def shell_blocks(page: str) -> Iterator[tuple[int, str]]:
    """The first line and the text of each block with commands: fenced as sh, or indented by four spaces."""
    fenced = re.compile(r"^ *```(\w*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
    text = _read(page)
    blocks = [(_line(text, match.start(2)), match[2]) for match in fenced.finditer(text) if match[1] == "sh"]
    text = fenced.sub(_blank, text)
    for match in re.finditer(r"(?<=\n\n)(?: {4,}.*\n+)+", text):
        if any(line.split()[0] in PROGRAMS for line in match[0].splitlines() if line.strip()):
            blocks.append((_line(text, match.start()), re.sub(r"^ {4,6}", "", match[0], flags=re.MULTILINE)))
    yield from sorted(blocks)


def python_examples(page: str) -> list[str]:
    """The blocks of Python of a page."""
    return re.findall(r"^```python\n(.*?)^```$", _read(page), re.MULTILINE | re.DOTALL)


def _read(page: str) -> str:
    return (REPOSITORY / page).read_text(encoding="utf-8")


def _line(text: str, position: int) -> int:
    return text.count("\n", 0, position) + 1


def _blank(match: re.Match[str]) -> str:
    """As many empty lines."""
    return "\n" * match[0].count("\n")


def _joined_lines(block: str) -> Iterator[tuple[int, str]]:
    """The lines that are not empty, each with its number, those that end with a backslash with the next."""
    number = 0
    for line in re.sub(r"\\\n", "\0", block).splitlines():
        if COMMENT.sub("", line).strip():
            yield number, " ".join(line.replace("\0", " ").split())
        number += 1 + line.count("\0")


def _command(page: str, line: int, text: str, variables: Mapping[str, str]) -> Command:
    words = shlex.split(Template(text).safe_substitute(variables))
    environment = {}
    while words and (match := ASSIGNMENT.fullmatch(words[0])):
        environment[match[1]] = match[2]
        del words[0]
    if words[:1] == ["export"]:
        environment |= {match[1]: match[2] for word in words[1:] if (match := ASSIGNMENT.fullmatch(word))}
    return Command(page, line, text, tuple(words), environment)
