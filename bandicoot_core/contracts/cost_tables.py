"""The table of what running Bandicoot costs."""

from bandicoot_core.contracts.table_contract import Column, TableContract

SPENDING = TableContract(
    "cost_report",
    "What each component has cost since the month began, and will have cost at its end",
    (
        Column("component", "string", "What the money goes to"),
        Column("basis", "string", "What the figure is computed from"),
        Column("spent_usd", "float64", "Spent since the month began", "US dollars", minimum=0),
        Column("projected_usd", "float64", "Spent at the end of the month, if it goes on so", "US dollars", minimum=0),
    ),
    key=("component",),
    sort_by=("component",),
)
