"""Maps the columns of an input to the parameters of a command. Pure.

The case of a name does not count. A column that only another command takes is left out. An unknown column is an error:
otherwise a misspelt `email` would be missing in every row. The error proposes the mapping that was probably meant.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping, Sequence

from attrs import define, field

from .errors import InputError
from .schema import PARAMETERS, RowSchema

REPORTED = ("why", "line")
"""Columns that `report` adds to the rows that it writes."""
_SYNONYMS = {
    "user_id": "user uid id player playerid player_id userid user_identifier username account accountid account_id customerid"
    " customer_id externalid external_id distinctid distinct_id gamerid gamer_id memberid member_id profileid profile_id",
    "client_ip": "ip ipaddress ipaddr ipv4 clientip clientipaddress userip playerip remoteip remoteaddr remoteaddress lastip"
    " loginip sourceip hostip",
    "country_code": "country countrycode countryiso countryisocode isocountry isocountrycode iso2 geocountry cc countryid",
    "timezone_id": "timezone timezoneid timezonename tz tzid tzname usertimezone olson iana",
    "email": "email mail emailaddress useremail playeremail contactemail",
    "deep_link": "deeplink deeplinkurl link url",
    "category": "category categoryid categoryname topic",
}
_PARAMETER_OF = {re.sub("[^a-z0-9]", "", word): name for name, words in _SYNONYMS.items() for word in (name, *words.split())}
_INDEX = re.compile(r"unnamed: ?\d+|index|__index_level_\d+__|level_\d+|_c0", re.IGNORECASE)
MAX_NAMED = 10
"""Columns that a message names at most."""


def guess_parameter(name: str) -> str | None:
    """Guess the parameter that a column of another name holds."""
    last = name.rpartition(".")[2]  # Hive writes `players.user_id`
    return _PARAMETER_OF.get(re.sub("[^a-z0-9]", "", last.casefold()))


@define
class ColumnMap:
    """Maps the columns of one input to the parameters of a command.

    Args:
        schema: the command's.
        mapping: parameter → column, where the column has another name.
        constants: parameter → its value in all rows.
        ignore_extra: leave out unknown columns.
        in_query: whether the columns come from a query, which renames them by `AS`.

    Attributes:
        left_out: columns that were left out so far; the first eleven.
    """

    schema: RowSchema
    mapping: Mapping[str, str] = field(factory=dict)
    constants: Mapping[str, str] = field(factory=dict)
    ignore_extra: bool = False
    in_query: bool = False
    left_out: dict[str, None] = field(factory=dict)
    _known: dict[str, str | None] = field(factory=dict)

    def __attrs_post_init__(self) -> None:
        """Check the parameters that the options name.

        Raises:
            InputError: when the command has no such parameter, or two options give it.
        """
        known = ", ".join(self.schema.columns)
        for option, names in (("--column", self.mapping), ("--constant", self.constants)):
            for name in names:
                if name not in self.schema.columns:
                    raise InputError(f"{option}: {self.schema.command} has no parameter {name!r}; it has {known}")
        if "user_id" in self.constants:
            raise InputError("--constant: with one user_id all rows would be the same player; name the column with --column")
        if both := [name for name in self.mapping if name in self.constants]:
            raise InputError(f"{both[0]}: given by --column and by --constant; leave one of them out")

    def parameter_of(self, name: str) -> str | None:
        """Return the parameter that a column holds; `None` for a column that is left out.

        Raises:
            LookupError: when the column is unknown.
        """
        if name in self._known:
            return self._known[name]
        found = self._find(name)
        if found is None and len(self.left_out) <= MAX_NAMED:
            self.left_out[name] = None
        if len(self._known) < 1_000:  # JSON may have new names in every row
            self._known[name] = found
        return found

    def _find(self, name: str) -> str | None:
        plain = name.strip().casefold()
        for parameter, column in self.mapping.items():
            if column.strip().casefold() == plain:
                return parameter
        if plain in self.schema.columns and plain not in self.mapping:
            return plain
        if plain in REPORTED or self.ignore_extra or (plain in PARAMETERS and plain not in self.mapping):
            return None
        raise LookupError(name)

    def resolve(self, names: Sequence[str], place: str) -> tuple[str | None, ...]:
        """Return the parameter of each column of a header; `None` for a column that is left out.

        Args:
            names: the columns.
            place: file and line of the header, for messages.

        Raises:
            InputError: when a column is unknown or missing, or a parameter has two columns, or a column and a constant.
        """
        for parameter, column in self.mapping.items():
            if column.strip().casefold() not in {name.strip().casefold() for name in names}:
                raise InputError(
                    f"{place}: there is no column {column!r} for --column {parameter}=…; the columns are {_list_names(names)}"
                )
        columns = self.resolve_some(names, place)
        for name, found in zip(names, columns, strict=True):
            if found is None:
                continue
            if columns.count(found) > 1:
                raise InputError(f"{place}: two columns hold the parameter {found}; leave one out, or name it by --column")
            if found in self.constants:
                raise InputError(f"{place}: the column {name.strip()!r} and --constant both give {found}; leave --constant out")
        for needed, message in self.schema.needed:
            if not set(needed) & ({*columns} | self.constants.keys()):
                hint = self._propose(
                    [name for name, parameter in zip(names, columns, strict=True) if parameter is None], {*columns}
                )
                known = ", ".join(self.schema.columns)
                raise InputError(f"{place}: the header needs {message}; known columns are {known}{hint}")
        return columns

    def resolve_some(self, names: Sequence[str], place: str) -> tuple[str | None, ...]:
        """Return the parameter of each column, without a check for missing ones.

        Raises:
            InputError: when a column is unknown.
        """
        columns: list[str | None] = []
        unknown: list[str] = []
        for name in names:
            try:
                columns.append(self.parameter_of(name))
            except LookupError:
                unknown.append(name)
        if unknown:
            raise InputError(f"{place}: {self.describe_unknown(unknown, names, {*columns})}")
        return tuple(columns)

    def describe_unknown(self, unknown: Sequence[str], names: Sequence[str], taken: set[str | None]) -> str:
        """Describe unknown columns, and say what to type."""
        known = ", ".join(self.schema.columns)
        if not all(name.strip() for name in unknown):
            return self._describe_unnamed(names)
        indexes = [name for name in unknown if _INDEX.fullmatch(name)]
        hint = self._propose(unknown, taken)
        if not hint and len(indexes) == len(unknown):
            hint = (
                f". It looks like the index of a pandas table: write the table with index=False, or {self._leave_out(indexes)}"
            )
        elif not hint and len(unknown) == len(names) and not self.in_query:
            wanted = ",".join(name for (name, *_), _ in self.schema.needed)
            hint = f". If this is a row, the header line is missing: put one before it, such as {wanted}"
        elif not hint:
            hint = f". Remove or rename it, or {self._leave_out(unknown)}"
        word = "column" if len(unknown) == 1 else "columns"
        return f"unknown {word} {_list_names(unknown)}; known are {known}{hint}"

    def propose_query(self, names: Iterable[str]) -> str:
        """List the columns of a table for a `SELECT`; empty when a needed one is missing."""
        listed: dict[str, str] = {}
        for name in names:
            plain = name.strip().casefold()
            meant = plain if plain in self.schema.columns else guess_parameter(name)
            if meant in self.schema.columns and (plain == meant or meant not in listed):
                listed[meant] = _quote(name) if plain == meant else f"{_quote(name)} AS {meant}"
        whole = all(set(needed) & listed.keys() for needed, _ in self.schema.needed)
        return ", ".join(listed.values()) if whole else ""

    def _leave_out(self, names: Sequence[str]) -> str:
        if self.in_query:
            return f"leave {_list_names(names)} out of the query"
        return "leave it out with --ignore-extra" if len(names) == 1 else "leave them out with --ignore-extra"

    def _describe_unnamed(self, names: Sequence[str]) -> str:
        if not names[0].strip():
            return (
                "the first column has no name, like the index of a pandas table;"
                " write the table with index=False, or leave the column out with --ignore-extra"
            )
        if not names[-1].strip():
            return (
                "the last column has no name: the line ends with a separator;"
                " remove it, or leave the column out with --ignore-extra"
            )
        return f"column {[bool(name.strip()) for name in names].index(False) + 1} has no name; leave it out with --ignore-extra"

    def _propose(self, unknown: Iterable[str], taken: set[str | None]) -> str:
        """Propose the mapping that was probably meant, ready to be pasted."""
        proposals: dict[str, str] = {}
        rest: list[str] = []
        for name in unknown:
            meant = guess_parameter(name)
            if meant in self.schema.columns and meant not in {*proposals, *taken, *self.constants}:
                proposals[meant] = name.strip()
            else:
                rest.append(name)
        if not proposals:
            return ""
        if self.in_query:
            listed = ", ".join(f"{_quote(name)} AS {meant}" for meant, name in proposals.items())
            return f". Probably meant: SELECT {listed}" + (f"; {self._leave_out(rest)}" if rest else "")
        mapped = " ".join(f"--column {shlex.quote(f'{meant}={name}')}" for meant, name in proposals.items())
        return f". Probably meant: {mapped}" + (" --ignore-extra" if rest and not self.ignore_extra else "")


def _list_names(names: Sequence[str]) -> str:
    listed = ", ".join(repr(name.strip()[:60]) for name in names[:MAX_NAMED])
    return listed + (f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else "")


def _quote(name: str) -> str:
    return name if re.fullmatch("[A-Za-z_][A-Za-z0-9_]*", name) else '"' + name.replace('"', '""') + '"'
