"""The words of the field as they stand in tables: states, actions, events, outcomes and arms, and their order.

Only names and orders; columns and tables that use them belong to the other modules of this package.
"""

RESPONSIVE = "R"
UNRESPONSIVE = "U"
STATES = (UNRESPONSIVE, RESPONSIVE)
"""The order [U, R] in which arrays over states are laid out everywhere."""

PASSIVE = "passive"
ACTIVE = "active"
ACTIONS = (PASSIVE, ACTIVE)
"""The order [passive, active] in which arrays over actions are laid out everywhere."""

EVENT_TYPES = ("sent", "delivered", "opened", "clicked", "failed")
ENGAGED_EVENT_TYPES = ("opened", "clicked")
RECEIVED_EVENT_TYPES = {"sms_delivered": "delivered", "sms_opened": "opened", "vaccination_completed": "vaccinated"}
"""What an event is called when it is told -> what it is called in the lake."""

CALL_OUTCOMES = ("reached", "no_answer", "busy", "wrong_number", "refused")
CONTROL_ARM = "control"
TREATMENT_ARM = "treatment"
EXPERIMENT_ARMS = (TREATMENT_ARM, CONTROL_ARM)
ACTIVE_STATUS = "active"
BY_HISTORY, BY_FEATURES = "history", "features"
ASSIGNMENT_METHODS = (BY_HISTORY, BY_FEATURES)
"""How a caregiver came to her cluster."""

PASSIVE_TUPLE = ("n_rr", "n_ru", "n_ur", "n_uu")
ACTIVE_TUPLE = ("n_active_rr", "n_active_ru", "n_active_ur", "n_active_uu")
"""Transition counts by action, states from and to: what a caregiver's weeks are counted as."""

SPENDING_LEVELS = (50, 80, 100)
"""Percentages of the monthly limit at which somebody is told."""

NOT_ACTIVE = "not active"
IN_WARM_UP = "warm-up"
WITHOUT_CLUSTER = "no cluster"
IN_CONTROL_ARM = "control arm"
IN_COOL_DOWN = "cool-down"
AWAITING_OUTCOME = "waiting for outcome"

EXCLUSIONS = (NOT_ACTIVE, IN_WARM_UP, WITHOUT_CLUSTER, IN_CONTROL_ARM, IN_COOL_DOWN, AWAITING_OUTCOME)
"""The criteria in the order in which they are applied; `excluded_by` names the first that fails."""
