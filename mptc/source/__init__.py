"""Source text, spans, diagnostics as values, and how they are shown."""
