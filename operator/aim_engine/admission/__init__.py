"""The gate: what is refused before it is stored, and what is only warned about. The rules are selection's; here they are asked."""
