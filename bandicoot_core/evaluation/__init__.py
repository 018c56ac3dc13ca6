"""How good states, models and lists are, in tables and pictures. Depends on policy and model, never on stores."""
