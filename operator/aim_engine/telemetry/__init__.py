"""What the operator tells the outside: metrics, health, readiness."""
