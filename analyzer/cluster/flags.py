"""Command-line flags of control-plane programs, from the Pods that run them, into the typed view of `declared`.

Only the flags listed here are taken over: an argument that is not known may hold a secret.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any, Final, get_type_hints

from analyzer.cluster.declared import (
    ApiServerDeclared,
    ControllerManagerDeclared,
    DeclaredSetting,
    EtcdDeclared,
    KonnectivityAgentDeclared,
    KonnectivityServerDeclared,
    ProgramDeclared,
    SchedulerDeclared,
)
from analyzer.cluster.documents import mapping, sequence, string, strings
from analyzer.protocols.credentials import redact


@dataclass(frozen=True, slots=True)
class Program:
    """A program whose flags are read: its component name, its file names, and where they go."""

    component: str
    names: tuple[str, ...]
    declared: type[ProgramDeclared]

    @property
    def flags(self) -> dict[str, str]:
        """Attribute of `declared` by flag name: the attribute's name with dashes."""
        return {f.name.replace("_", "-"): f.name for f in fields(self.declared) if f.name != "source_file"}


PROGRAMS: Final = (
    Program("kube-apiserver", ("kube-apiserver",), ApiServerDeclared),
    Program("etcd", ("etcd",), EtcdDeclared),
    Program("kube-controller-manager", ("kube-controller-manager",), ControllerManagerDeclared),
    Program("kube-scheduler", ("kube-scheduler",), SchedulerDeclared),
    Program("konnectivity-server", ("proxy-server", "konnectivity-server"), KonnectivityServerDeclared),
    Program("konnectivity-agent", ("proxy-agent", "konnectivity-agent"), KonnectivityAgentDeclared),
)

# strconv.ParseBool, which pflag uses.
_BOOLEANS: Final = {
    **dict.fromkeys(("1", "t", "T", "true", "TRUE", "True"), True),
    **dict.fromkeys(("0", "f", "F", "false", "FALSE", "False"), False),
}


def read_programs(pod: object, source_file: str) -> list[tuple[ProgramDeclared, list[DeclaredSetting]]]:
    """Read the flags of each known program that a Pod's containers run.

    Parameters
    ----------
    pod : object
        A Pod, from a static manifest or from the API.
    source_file : str

    Returns
    -------
    list of (typed view, settings)
        Settings hold every flag of the view in the order of its attributes, ``not set`` where it is left out.
    """
    found: list[tuple[ProgramDeclared, list[DeclaredSetting]]] = []
    for container in sequence(pod, "spec", "containers"):
        words = [
            word for text in (*strings(container, "command"), *strings(container, "args")) for word in _words(text)
        ]
        program = _program(words, string(container, "name"))
        if program is not None:
            flags = _flags(words, frozenset(program.flags))
            found.append((_typed(program, flags, source_file), _settings(program, flags, source_file)))
    return found


def read_arguments(arguments: object, name: str, source_file: str) -> tuple[ProgramDeclared, list[DeclaredSetting]]:
    """Read the flags of the program `name` from a mapping of flag to values, as OpenShift's configuration has them.

    Parameters
    ----------
    arguments : object
        ``apiServerArguments`` of a KubeAPIServerConfig: text, or list of text, by flag without dashes.
    name : str
        Component name, one of `PROGRAMS`.
    source_file : str
    """
    program = next(p for p in PROGRAMS if p.component == name)
    words = []
    for flag in mapping(arguments):
        values = strings(arguments, flag) or tuple(filter(None, [string(arguments, flag)]))
        words.append(f"--{flag}={','.join(values)}")
    flags = _flags(words, frozenset(program.flags))
    return _typed(program, flags, source_file), _settings(program, flags, source_file)


def _words(text: str) -> list[str]:
    """Words of one argument. Some manifests hand a whole command line to a shell."""
    if " --" not in text:
        return [text]
    try:
        return shlex.split(text, comments=False)
    except ValueError:
        return text.split()


def _program(words: Iterable[str], container: str) -> Program | None:
    """The program whose file name is a word of the command, else the one the container is named for."""
    bases = {word.rsplit("/", 1)[-1] for word in words if not word.startswith("-")}
    by_command = next((p for p in PROGRAMS if bases.intersection(p.names)), None)
    return by_command or next((p for p in PROGRAMS if container in p.names), None)


def _flags(words: list[str], known: frozenset[str]) -> dict[str, str]:
    """Values of the known flags; ``--flag=value``, ``--flag value``, and ``--flag`` alone. The last one counts."""
    found: dict[str, str] = {}
    for word, following in zip(words, [*words[1:], "--"], strict=True):
        name, equals, value = word.lstrip("-").partition("=")
        # etcd takes one dash too (Go package flag); an underscore is a dash (component-base/cli/flag).
        name = name.replace("_", "-")
        if word.startswith("-") and name in known:
            found[name] = value if equals else "true" if following.startswith("-") else following
    return found


def _typed(program: Program, flags: Mapping[str, str], source_file: str) -> ProgramDeclared:
    hints = get_type_hints(program.declared)
    values: dict[str, Any] = {}
    for flag, value in flags.items():
        attribute = program.flags[flag]
        hint = hints[attribute]
        if hint == tuple[str, ...]:
            values[attribute] = tuple(part.strip() for part in _shown(value).split(",") if part.strip())
        elif hint == bool | None:
            values[attribute] = _BOOLEANS.get(value)
        elif hint == int | None:
            values[attribute] = int(value) if value.isascii() and value.isdigit() and int(value[:6]) < 65536 else None
        else:
            values[attribute] = _shown(value) or None
    return program.declared(source_file=source_file, **values)


def _settings(program: Program, flags: Mapping[str, str], source_file: str) -> list[DeclaredSetting]:
    return [
        DeclaredSetting(
            program.component, f"--{flag}", _shown(flags[flag]) if flag in flags else "not set", source_file
        )
        for flag in program.flags
    ]


def _shown(value: str) -> str:
    """A value without what it may hold of passwords (user information of a URL) and tokens."""
    return redact(value.encode("utf-8", "replace")).decode()
