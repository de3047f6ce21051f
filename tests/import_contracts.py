"""Two import rules that import-linter has no contract for: what is pure, and what a package may take from another.

They are declared in pyproject.toml beside the others and run with them (`lint-imports`).
"""

from typing import Any

from grimp import ImportGraph
from importlinter import Contract, ContractCheck, fields, output

__all__ = ["OnlyContract", "PureContract"]


class PureContract(Contract):
    """The named modules reach none of the forbidden ones, neither by themselves nor through what they import.

    With `direct`, what they import may reach them: for a pure file that takes a value type from one that is not.
    """

    modules = fields.SetField(subfield=fields.StringField())
    forbidden = fields.SetField(subfield=fields.StringField())
    direct = fields.BooleanField(required=False, default=False)

    def check(self, graph: ImportGraph, verbose: bool) -> ContractCheck:
        """Every chain of imports from a pure module to a forbidden one."""
        named: set[str] = set(self.modules)  # type: ignore[call-overload]
        forbidden: set[str] = set(self.forbidden)  # type: ignore[call-overload]
        pure = {module for name in named for module in _expand(name, graph)}
        chains = [
            chain
            for module in sorted(pure)
            for target in sorted(forbidden & graph.modules)
            if (chain := graph.find_shortest_chain(importer=module, imported=target)) is not None
            and (len(chain) == 2 or not bool(self.direct))
        ]
        return ContractCheck(kept=not chains, metadata={"chains": chains})

    def render_broken_contract(self, check: ContractCheck) -> None:
        """One line for each chain."""
        _print_chains(check.metadata["chains"])


class OnlyContract(Contract):
    """What the source package imports from the target package is one of the allowed modules."""

    source = fields.StringField()
    target = fields.StringField()
    allowed = fields.SetField(subfield=fields.StringField())

    def check(self, graph: ImportGraph, verbose: bool) -> ContractCheck:
        """Every direct import from the source package into the target package that is not allowed."""
        source, target = str(self.source), str(self.target)
        names: set[str] = set(self.allowed)  # type: ignore[call-overload]
        allowed = {module for name in names for module in _expand(name, graph)}
        importers = {source} | graph.find_descendants(source)
        chains = [
            (importer, imported)
            for importer in sorted(importers)
            for imported in sorted(graph.find_modules_directly_imported_by(importer))
            if (imported == target or imported.startswith(f"{target}.")) and imported not in allowed
        ]
        return ContractCheck(kept=not chains, metadata={"chains": chains})

    def render_broken_contract(self, check: ContractCheck) -> None:
        """One line for each import."""
        _print_chains(check.metadata["chains"])


def _expand(name: str, graph: ImportGraph) -> set[str]:
    """The module and all below it. A name that leads nowhere is an error: a renamed file keeps its rule."""
    if name not in graph.modules:
        raise ValueError(f"{name} is named in an import contract and does not exist")
    return {name} | graph.find_descendants(name)


def _print_chains(chains: Any) -> None:
    for chain in chains:
        output.print_error("-   " + " -> ".join(chain), bold=False)
