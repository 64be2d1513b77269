"""Model facts from the Hugging Face Hub. Never called by admission or by pure code."""
